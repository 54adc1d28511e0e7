//! Cell strings and the benchmark's numbering.

use std::collections::HashSet;

use metad2a_search_space::{ArchIndex, CELL_COUNT, Cell, CellError, EDGES, Operation};
use proptest::prelude::*;

const PUBLISHED: [(u32, &str); 5] = [
    (0, "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"),
    (11, "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"),
    (284, "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|"),
    (857, "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
    (9930, "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
];

#[test]
fn published_cells_have_their_published_numbers() {
    for (number, text) in PUBLISHED {
        let cell: Cell = text.parse().expect(text);
        let index = ArchIndex::try_from(number).expect("below 15,625");
        assert_eq!(cell.index(), index, "{text}");
        assert_eq!(Cell::from_index(index), cell);
    }
}

#[test]
fn numbers_and_cells_are_one_to_one() {
    let numbers: HashSet<u16> = Cell::all().map(|cell| cell.index().get()).collect();
    assert_eq!(numbers.len(), CELL_COUNT);
    assert!(Cell::all().all(|cell| Cell::from_index(cell.index()) == cell));
    assert!(ArchIndex::all().all(|index| index.cell().index() == index));
}

#[test]
fn the_numbering_is_pinned_for_ever() {
    // FNV-1a over the strings in the benchmark's order, one a line.
    let hash = ArchIndex::all()
        .flat_map(|index| format!("{}\n", index.cell()).into_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(format!("{hash:016x}"), "8a39d9c5a475c0b1");
}

#[test]
fn every_cell_reads_back_from_its_string_and_its_operations() {
    let texts: HashSet<String> = Cell::all().map(|cell| cell.to_string()).collect();
    assert_eq!(texts.len(), CELL_COUNT);
    for cell in Cell::all() {
        assert_eq!(cell.to_string().parse(), Ok(cell));
        assert_eq!(Cell::new(cell.operations()), cell);
    }
}

#[test]
fn operations_follow_the_edges_of_the_string() {
    let text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|";
    let cell: Cell = text.parse().expect(text);
    let [none, skip, small, large, pool] = Operation::ALL;
    assert_eq!(cell.operations(), [none, skip, small, large, pool, none]);
    assert_eq!(EDGES, [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]);
}

#[test]
fn a_number_outside_the_space_is_refused() {
    assert!(ArchIndex::try_from(15_624).is_ok());
    for found in [15_625, 65_536, u32::MAX] {
        let error = ArchIndex::try_from(found).expect_err("too large");
        assert_eq!(error.to_string(), format!("{found} is not the number of a cell; they are 0 to 15624"));
    }
    assert!(serde_json::from_str::<ArchIndex>("15625").is_err());
    assert_eq!(serde_json::to_string(&ArchIndex::try_from(857).expect("below")).expect("a number"), "857");
}

#[test]
fn in_json_a_cell_is_its_string() {
    let cell: Cell = PUBLISHED[3].1.parse().expect("published");
    let json = serde_json::to_string(&cell).expect("a string");
    assert_eq!(json, format!("\"{cell}\""));
    assert_eq!(serde_json::from_str::<Cell>(&json).expect("just written"), cell);
    // A string with an escape cannot be borrowed from the text.
    assert_eq!(serde_json::from_str::<Cell>(&json.replace('|', "\\u007c")).expect("the same string"), cell);
    let error = serde_json::from_str::<Cell>("\"|none~1|\"").expect_err("no cell");
    assert!(error.to_string().contains("at character 6, expected `~0|+|`, found `~1|`"), "{error}");
}

#[test]
fn errors_name_the_place_and_what_was_expected_and_found() {
    let form = "; the form is `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`";
    let operations = "expected `none`, `skip_connect`, `nor_conv_1x1`, `nor_conv_3x3` or `avg_pool_3x3`";
    for (text, message) in [
        ("", format!("not a cell: at character 1, expected `|`, found the end{form}")),
        ("none", format!("not a cell: at character 1, expected `|`, found `n`{form}")),
        ("|none~0|", format!("not a cell: at character 6, expected `~0|+|`, found `~0|`{form}")),
        (
            "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
            format!("not a cell: at character 22, expected `~1|+|`, found `~0|+|`{form}"),
        ),
        (
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2| ",
            format!("not a cell: at character 48, expected the end, found ` `{form}"),
        ),
        (
            "|none~0|+|max_pool~0|none~1|+|none~0|none~1|none~2|",
            format!("not a cell: at character 11, edge 0→2: `max_pool` is not an operation; {operations}"),
        ),
        ("|é~0|", format!("not a cell: at character 2, edge 0→1: `é` is not an operation; {operations}")),
    ] {
        assert_eq!(text.parse::<Cell>().expect_err(text).to_string(), message);
    }
}

#[test]
fn a_whole_file_in_place_of_a_cell_makes_a_short_message() {
    let error = format!("|{}", "é".repeat(100_000)).parse::<Cell>().expect_err("no cell");
    assert!(error.to_string().len() < 400, "{error}");
    assert!(matches!(error, CellError::Operation { place: 2, from: 0, to: 1, .. }), "{error}");
}

fn cells() -> impl Strategy<Value = Cell> {
    (0..CELL_COUNT as u32).prop_map(|number| ArchIndex::try_from(number).expect("below").cell())
}

proptest! {
    #[test]
    fn a_text_is_read_only_if_it_is_written_the_same_way(
        cell in cells(), place in any::<prop::sample::Index>(), put in "[|~+0-3a-z_é ]{0,2}", removed in 0..3_usize,
    ) {
        let mut text: Vec<char> = cell.to_string().chars().collect();
        let start = place.index(text.len() + 1);
        let end = (start + removed).min(text.len());
        text.splice(start..end, put.chars());
        let text: String = text.into_iter().collect();
        match text.parse::<Cell>() {
            Ok(read) => prop_assert_eq!(read.to_string(), text),
            Err(CellError::Text { place, .. } | CellError::Operation { place, .. }) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&place));
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        prop_assert!(text.parse::<Cell>().is_err());
    }
}
