//! Every form of source: read as a person expects, or refused with file, place and rule.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be written fails the test")]

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use metad2a_images::{
    Error, LabelledPicture, SourceFormat, SourceIndex, SourceLocation, index, read_classes, read_indexed,
};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn location(format: SourceFormat, paths: &[&str]) -> SourceLocation {
    SourceLocation { format, paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

async fn both(
    location: &SourceLocation,
    classes: &[u32],
) -> Result<(SourceIndex, Vec<LabelledPicture>), Error> {
    Ok((index(location).await?, read_classes(location, classes).await?))
}

async fn refusal(location: &SourceLocation) -> String {
    let error = both(location, &[0]).await.expect_err("the source is damaged");
    // Without the folder, which differs from run to run.
    let text = error.to_string();
    match (text.find('`'), text.find("/file")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..=from], &text[to + 1..]),
        _ => text,
    }
}

fn png(level: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = image::GrayImage::from_pixel(3, 2, image::Luma([level]));
    image::DynamicImage::from(picture)
        .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
        .unwrap();
    bytes
}

fn idx_pictures(count: u32) -> Vec<u8> {
    let mut file = vec![0, 0, 8, 3];
    for length in [count, 2, 3] {
        file.extend(length.to_be_bytes());
    }
    file.extend((0..count * 6).map(|at| at as u8));
    file
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, 1];
    file.extend((labels.len() as u32).to_be_bytes());
    file.extend(labels);
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

fn parquet(rows: &[(Option<Vec<u8>>, i64)], names: Option<&str>) -> Vec<u8> {
    let bytes: BinaryArray = rows.iter().map(|(bytes, _)| bytes.as_deref()).collect();
    let paths: StringArray = rows.iter().map(|_| None::<&str>).collect();
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    let image = StructArray::new(fields.clone(), vec![Arc::new(bytes) as ArrayRef, Arc::new(paths)], None);
    let labels = Int64Array::from_iter_values(rows.iter().map(|(_, label)| *label));
    let schema = Arc::new(Schema::new(vec![
        Field::new("image", DataType::Struct(fields), true),
        Field::new("label", DataType::Int64, true),
    ]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(image), Arc::new(labels)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    if let Some(names) = names {
        let text = format!("{{\"info\":{{\"features\":{{\"label\":{{\"names\":{names}}}}}}}}}");
        writer.append_key_value_metadata(KeyValue::new("huggingface".to_owned(), text));
    }
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn idx_files_are_read_plain_and_packed_with_the_same_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = write(folder.path(), "p", &idx_pictures(4));
    let labels = write(folder.path(), "l", &idx_labels(&[1, 0, 1, 7]));
    let packed = write(folder.path(), "p.gz", &gzip(&idx_pictures(4)));
    let (found, read) = both(&location(SourceFormat::Idx, &[&pictures, &labels]), &[1]).await.unwrap();
    assert_eq!(found.pictures, 4);
    let classes: Vec<(u32, u64)> = found.classes.iter().map(|class| (class.label, class.pictures)).collect();
    assert_eq!(classes, [(0, 1), (1, 2), (7, 1)]);
    assert_eq!(read.len(), 2);
    assert_eq!((read[1].picture.width, read[1].picture.height), (3, 2));
    assert_eq!(read[1].picture.rgb[..6], [12, 12, 12, 13, 13, 13]);
    let unpacked = read_classes(&location(SourceFormat::Idx, &[&packed, &labels]), &[1]).await.unwrap();
    assert_eq!(unpacked, read);
}

#[tokio::test]
async fn damaged_idx_files_are_refused_with_place_and_rule() {
    let folder = tempfile::tempdir().unwrap();
    let labels = write(folder.path(), "labels", &idx_labels(&[0, 1]));
    let mut wrong_magic = idx_pictures(2);
    wrong_magic[2] = 9;
    let mut absurd = idx_pictures(2);
    absurd[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    absurd[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut flat = idx_pictures(0);
    flat[8..12].copy_from_slice(&0_u32.to_be_bytes());
    let cases = [
        (idx_pictures(2)[..20].to_vec(), "`file-0`, byte 20: its header promises 12 bytes after it, found 4"),
        (vec![0, 0], "`file-1`, the header: it ends after 2 bytes; the header alone has 16"),
        (
            wrong_magic,
            "`file-2`, byte 0: it starts with [00, 00, 09, 03]; an IDX file of this kind starts with [00, 00, 08, 03]",
        ),
        (
            absurd,
            "`file-3`, the header: it claims [4294967295, 4294967295, 3] bytes, more than the limit of 1073741824",
        ),
        (flat, "`file-4`, the header: pictures of 3 x 0 pixels"),
    ];
    for (number, (content, expected)) in cases.into_iter().enumerate() {
        let pictures = write(folder.path(), &format!("file-{number}"), &content);
        assert_eq!(refusal(&location(SourceFormat::Idx, &[&pictures, &labels])).await, expected);
    }
    let three = write(folder.path(), "file-pictures", &idx_pictures(3));
    let message = refusal(&location(SourceFormat::Idx, &[&three, &labels])).await;
    assert!(message.ends_with("it has 2 labels, but the file of pictures has 3 pictures"), "{message}");
    let alone = index(&location(SourceFormat::Idx, &[&three])).await.unwrap_err().to_string();
    assert_eq!(alone, "an idx source needs a file of pictures and a file of labels, got 1 paths");
    let none = write(folder.path(), "file-none", &idx_pictures(0));
    let no_labels = write(folder.path(), "no-labels", &idx_labels(&[]));
    let empty = index(&location(SourceFormat::Idx, &[&none, &no_labels])).await.unwrap_err().to_string();
    assert!(empty.ends_with("the whole source: it holds no picture"), "{empty}");
}

#[tokio::test]
async fn a_packed_file_that_unfolds_beyond_its_header_is_refused_early() {
    let folder = tempfile::tempdir().unwrap();
    let mut endless = idx_pictures(1);
    endless.resize(64 << 20, 0);
    let bomb = write(folder.path(), "file-bomb", &gzip(&endless));
    let labels = write(folder.path(), "labels", &idx_labels(&[0]));
    let message = refusal(&location(SourceFormat::Idx, &[&bomb, &labels])).await;
    assert_eq!(message, "`file-bomb`, byte 23: its header promises 6 bytes after it, found more");
}

#[tokio::test]
async fn a_parquet_file_without_pictures_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("label", DataType::Int64, true)]));
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values([0, 1]));
    let batch = RecordBatch::try_new(schema.clone(), vec![labels]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    let file = write(folder.path(), "file-labels", &writer.into_inner().unwrap());
    let error = index(&location(SourceFormat::HuggingfaceParquet, &[&file])).await.unwrap_err().to_string();
    assert!(error.ends_with("the schema: column `image` is missing; it has `label`"), "{error}");
}

#[tokio::test]
async fn cifar_files_are_read_plane_by_plane_and_cut_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = vec![3];
    record.extend([10; 1024]);
    record.extend([20; 1024]);
    record.extend([30; 1024]);
    let ten = write(folder.path(), "ten", &record);
    let (found, read) = both(&location(SourceFormat::Cifar10Binary, &[&ten, &ten]), &[3]).await.unwrap();
    assert_eq!((found.pictures, read.len()), (2, 2));
    assert_eq!(read[0].picture.rgb[..3], [10, 20, 30]);
    record.insert(0, 99);
    let hundred = write(folder.path(), "hundred", &record);
    assert_eq!(
        index(&location(SourceFormat::Cifar100Binary, &[&hundred])).await.unwrap().classes[0].label,
        3
    );
    let cut = write(folder.path(), "file-cut", &record[..3000]);
    let message = refusal(&location(SourceFormat::Cifar10Binary, &[&cut])).await;
    assert_eq!(
        message,
        "`file-cut`, byte 3000: a file holds whole records of 3073 bytes; 3000 are left over"
    );
    let wrong = write(folder.path(), "file-label", &record[..3073]);
    let message = refusal(&location(SourceFormat::Cifar10Binary, &[&wrong])).await;
    assert_eq!(message, "`file-label`, record 0: label 99 is not below 10, the number of classes");
}

#[tokio::test]
async fn parquet_files_bring_names_of_classes_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(Some(png(7)), 1), (Some(png(9)), 0), (Some(png(11)), 1)];
    let file = write(folder.path(), "a.parquet", &parquet(&rows, Some("[\"cat\",\"dog\"]")));
    let (found, read) = both(&location(SourceFormat::HuggingfaceParquet, &[&file]), &[1]).await.unwrap();
    let names: Vec<&str> = found.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["cat", "dog"]);
    assert_eq!(read.iter().map(|picture| picture.picture.rgb[0]).collect::<Vec<_>>(), [7, 11]);
}

#[tokio::test]
async fn files_of_one_source_must_agree_on_the_names_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(Some(png(7)), 1)];
    let first = write(folder.path(), "first", &parquet(&rows, Some("[\"cat\",\"dog\"]")));
    let second = write(folder.path(), "file-2", &parquet(&rows, Some("[\"dog\",\"cat\"]")));
    let message = refusal(&location(SourceFormat::HuggingfaceParquet, &[&first, &second])).await;
    assert!(
        message.ends_with("the footer: its classes have other names than those of the source's first file"),
        "{message}"
    );
}

#[tokio::test]
async fn damaged_parquet_rows_are_refused_with_row_and_rule() {
    let folder = tempfile::tempdir().unwrap();
    let good = || Some(png(1));
    let cases = [
        (parquet(&[(good(), 0), (Some(Vec::new()), 0)], None), "row 1: the picture holds no bytes"),
        (parquet(&[(None, 0)], None), "row 0: the picture holds no bytes"),
        (parquet(&[(good(), 2)], Some("[\"a\",\"b\"]")), "row 0: label 2 is not a whole number from 0 to 1"),
        (parquet(&[(good(), -1)], None), "row 0: label -1 is not a whole number from 0 to 999999"),
        (b"PAR1 but nothing else".to_vec(), "not a readable Parquet file"),
    ];
    for (number, (content, expected)) in cases.into_iter().enumerate() {
        let file = write(folder.path(), &format!("file-{number}"), &content);
        let message = refusal(&location(SourceFormat::HuggingfaceParquet, &[&file])).await;
        assert!(message.contains(expected) && message.starts_with(&format!("`file-{number}`")), "{message}");
    }
}

#[tokio::test]
async fn a_folder_has_a_class_for_each_folder_in_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, level) in [("dog/1.png", 3), ("cat/b.PNG", 5), ("cat/a.png", 4), ("cat-big/1.png", 6)] {
        write(folder.path(), name, &png(level));
    }
    write(folder.path(), "cat/notes.txt", b"no picture");
    write(folder.path(), ".hidden/x.png", b"no picture");
    let path = folder.path().display().to_string();
    let (found, read) = both(&location(SourceFormat::ImageFolder, &[&path]), &[0]).await.unwrap();
    let names: Vec<&str> = found.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["cat", "cat-big", "dog"], "classes are ordered by name, not by path");
    assert_eq!(read.iter().map(|picture| picture.picture.rgb[0]).collect::<Vec<_>>(), [4, 5]);
    write(folder.path(), "dog/broken.jpg", b"");
    let error = read_classes(&location(SourceFormat::ImageFolder, &[&path]), &[2]).await.unwrap_err();
    assert!(error.to_string().ends_with("file `dog/broken.jpg`: the picture holds no bytes"), "{error}");
}

#[tokio::test]
async fn an_empty_folder_a_missing_file_and_an_unknown_class_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let empty = index(&location(SourceFormat::ImageFolder, &[&path])).await.unwrap_err().to_string();
    assert!(empty.ends_with("no folder of PNG, JPEG or WebP files for any class was found"), "{empty}");
    let missing =
        index(&location(SourceFormat::Cifar10Binary, &["nowhere.bin"])).await.unwrap_err().to_string();
    assert!(missing.starts_with("`nowhere.bin` cannot be read"), "{missing}");
    let pictures = write(folder.path(), "p", &idx_pictures(1));
    let labels = write(folder.path(), "l", &idx_labels(&[0]));
    let idx = location(SourceFormat::Idx, &[&pictures, &labels]);
    assert!(matches!(read_classes(&idx, &[0, 5]).await, Err(Error::UnknownClass { label: 5, .. })));
}

#[tokio::test]
async fn a_pattern_or_a_folder_stands_for_the_files_that_are_there_now() {
    let folder = tempfile::tempdir().unwrap();
    let one = write(folder.path(), "b.parquet", &parquet(&[(Some(png(7)), 0)], Some("[\"cat\",\"dog\"]")));
    write(folder.path(), "notes.txt", b"no pictures");
    write(folder.path(), "old/c.parquet", b"not looked at");
    let here = folder.path().display().to_string();
    let alone = index(&location(SourceFormat::HuggingfaceParquet, &[&one])).await.unwrap();
    for path in [here.clone(), format!("{here}/"), format!("{here}/*.parquet"), format!("{here}/b*")] {
        let found = index(&location(SourceFormat::HuggingfaceParquet, &[&path])).await.unwrap();
        assert_eq!(found, SourceIndex { files: found.files.clone(), ..alone.clone() });
        assert_eq!(found.files, std::slice::from_ref(&one));
    }
    // A file that comes may know further classes.
    let names = "[\"cat\",\"dog\",\"emu\"]";
    let two = write(folder.path(), "a.parquet", &parquet(&[(Some(png(9)), 2)], Some(names)));
    let grown = location(SourceFormat::HuggingfaceParquet, &[&here]);
    let (found, read) = both(&grown, &[2]).await.unwrap();
    assert_eq!(found.files, [two, one], "in the order of their names");
    assert_eq!(found.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["cat", "emu"]);
    assert_eq!((found.pictures, read.len()), (2, 1));
    assert_ne!(found.content_id, alone.content_id);
    let nothing = index(&location(SourceFormat::Cifar10Binary, &[&here])).await.unwrap_err().to_string();
    assert!(nothing.ends_with("the folder: it has no file whose name is like `*.bin`"), "{nothing}");
}

#[tokio::test]
async fn a_source_that_changed_since_it_was_indexed_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "cats/a.png", &png(4));
    let path = folder.path().display().to_string();
    let pictures = location(SourceFormat::ImageFolder, &[&path]);
    let before = index(&pictures).await.unwrap();
    let expected = before.fingerprint.as_str();
    assert_eq!(read_indexed(&pictures, &[0], expected).await.unwrap().len(), 1);
    write(folder.path(), "cats/b.png", &png(5));
    assert!(matches!(read_indexed(&pictures, &[0], expected).await, Err(Error::Changed { .. })));

    let images = write(folder.path(), "p", &idx_pictures(2));
    let labels = write(folder.path(), "l", &idx_labels(&[0, 1]));
    let files = location(SourceFormat::Idx, &[&images, &labels]);
    let before = index(&files).await.unwrap();
    let expected = before.fingerprint.as_str();
    assert_eq!(read_indexed(&files, &[1], expected).await.unwrap().len(), 1);
    write(folder.path(), "l", &idx_labels(&[1, 1]));
    let error = read_indexed(&files, &[1], expected).await.unwrap_err().to_string();
    assert!(
        error.ends_with("changed while the pipeline was running; run it again to take in what is there now")
    );
}

#[tokio::test]
async fn the_content_id_follows_the_content_and_not_the_place() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ids = Vec::new();
    for (folder, labels) in [(&here, [0, 1]), (&there, [0, 1]), (&there, [1, 1])] {
        let pictures = write(folder.path(), "p", &idx_pictures(2));
        let labels = write(folder.path(), "l", &idx_labels(&labels));
        ids.push(index(&location(SourceFormat::Idx, &[&pictures, &labels])).await.unwrap().content_id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[test]
fn an_unknown_form_is_refused_with_the_known_ones() {
    let error = "tfrecord".parse::<SourceFormat>().unwrap_err().to_string();
    assert_eq!(
        error,
        "`tfrecord` is not a form of image source; known: `huggingface-parquet`, `idx`, `cifar10-binary`, \
         `cifar100-binary`, `image-folder`"
    );
}
