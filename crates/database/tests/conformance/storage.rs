//! Rules of the store itself.

use bytes::Bytes;
use futures::future::join_all;
use metad2a_database::{Access, Error, Put, Store, sha256_hex};

use crate::Place;

pub(crate) async fn the_first_of_many_creators_wins(place: &Place) {
    let store = place.open().await;
    for round in 0..5 {
        let path = format!("checkpoints/race/{round}.json");
        let puts = (0..16).map(|writer| {
            let (store, path) = (store.clone(), path.clone());
            tokio::spawn(async move {
                store.put_if_absent(&path, Bytes::from(format!("{writer}"))).await.unwrap()
            })
        });
        let outcomes: Vec<Put> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<usize> = (0..16).filter(|writer| outcomes[*writer] == Put::Created).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(store.get(&path).await.unwrap().unwrap(), winners[0].to_string().as_bytes());
    }
    let equal = store.get("checkpoints/race/0.json").await.unwrap().unwrap();
    for content in [Bytes::from("late"), equal] {
        assert_eq!(store.put_if_absent("checkpoints/race/0.json", content).await.unwrap(), Put::Exists);
    }
}

pub(crate) async fn what_is_put_is_found_listed_and_removed(place: &Place) {
    let store = place.open().await;
    let path = "checkpoints/a/1.json";
    assert_eq!(store.get(path).await.unwrap(), None);
    assert_eq!(store.find(path).await.unwrap(), None);
    store.put_if_absent(path, Bytes::from("four")).await.unwrap();
    assert_eq!(store.size(path).await.unwrap(), Some(4));
    let listed = store.list("checkpoints/").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].path.as_str(), listed[0].size), (path, 4));
    store.delete(path).await.unwrap();
    store.delete(path).await.expect("removing what is not there is no error");
    assert!(store.list("checkpoints").await.unwrap().is_empty());
}

pub(crate) async fn listing_a_folder_leaves_its_namesakes_out(place: &Place) {
    let store = place.open().await;
    for path in ["checkpoints/a/1", "checkpoints/ab/1", "checkpoints/a/b/2"] {
        store.put_if_absent(path, Bytes::from("x")).await.unwrap();
    }
    let paths: Vec<String> =
        store.list("checkpoints/a").await.unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, ["checkpoints/a/1", "checkpoints/a/b/2"]);
}

pub(crate) async fn a_long_listing_is_complete(place: &Place) {
    let store = place.open().await;
    // More than one page of S3's listing, which holds 1,000.
    let paths: Vec<String> = (0..1_050).map(|number| format!("checkpoints/long/{number:05}")).collect();
    for chunk in paths.chunks(50) {
        join_all(chunk.iter().map(|path| store.put_if_absent(path, Bytes::from("x"))))
            .await
            .into_iter()
            .for_each(|put| assert_eq!(put.unwrap(), Put::Created));
    }
    let listed: Vec<String> =
        store.list("checkpoints/long").await.unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(listed, paths);
}

pub(crate) async fn a_read_only_store_refuses_every_write(place: &Place) {
    place.open().await.put_if_absent("checkpoints/a", Bytes::from("x")).await.unwrap();
    let reader = Store::open(&place.url, Access::ReadOnly).await.unwrap();
    assert!(reader.get("checkpoints/a").await.unwrap().is_some());
    let refused = [
        reader.put_if_absent("checkpoints/b", Bytes::new()).await.err(),
        reader.put_data("weights", "bin", Bytes::new(), None).await.err(),
        reader.delete("checkpoints/a").await.err(),
        reader.time().await.err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::ReadOnly { .. })), "{error:?}");
    }
    assert!(reader.get("checkpoints/a").await.unwrap().is_some());
}

pub(crate) async fn a_read_only_store_needs_a_database(place: &Place) {
    let error = Store::open(&place.url, Access::ReadOnly).await.unwrap_err();
    assert!(matches!(error, Error::NoDatabase { .. } | Error::Url { .. }), "{error}");
}

pub(crate) async fn a_newer_layout_is_refused(place: &Place) {
    let store = place.open().await;
    store.delete("format.json").await.unwrap();
    let newer = Bytes::from(r#"{"product": "metad2a", "layout": 1000}"#);
    store.put_if_absent("format.json", newer).await.unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = Store::open(&place.url, access).await.unwrap_err();
        assert!(matches!(error, Error::Layout { found: 1000, .. }), "{error}");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}

pub(crate) async fn opening_leaves_only_the_layout_version(place: &Place) {
    let first = place.open().await;
    let second = place.open().await;
    for store in [first, second] {
        let paths: Vec<String> = store.list("").await.unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(paths, ["format.json"]);
    }
}

pub(crate) async fn the_clock_of_the_store_dates_its_objects(place: &Place) {
    let store = place.open().await;
    let before = store.time().await.unwrap();
    store.put_if_absent("checkpoints/a", Bytes::from("x")).await.unwrap();
    let after = store.time().await.unwrap();
    let modified = store.find("checkpoints/a").await.unwrap().unwrap().modified;
    assert!(before <= modified && modified <= after, "{before} {modified} {after}");
}

pub(crate) async fn equal_data_has_one_name(place: &Place) {
    let store = place.open().await;
    let content = Bytes::from("some weights");
    let first = store.put_data("weights", "safetensors", content.clone(), None).await.unwrap();
    let second = store.put_data("weights", "safetensors", content.clone(), None).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first.sha256, sha256_hex(&content));
    assert_eq!(first.path, format!("results/weights/{}/{}.safetensors", &first.sha256[..2], first.sha256));
    assert_eq!(first.kind(), Some("weights"));
    assert_eq!(store.get_data(&first).await.unwrap(), content);
    assert_eq!(store.list("results").await.unwrap().len(), 1);
}

pub(crate) async fn damaged_data_is_named_with_its_hash(place: &Place) {
    let store = place.open().await;
    let file = store.put_data("weights", "bin", Bytes::from("whole"), None).await.unwrap();
    store.delete(&file.path).await.unwrap();
    store.put_if_absent(&file.path, Bytes::from("wh0le")).await.unwrap();
    let error = store.get_data(&file).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Damaged { .. }), "{message}");
    for part in [&file.path, &file.sha256, &sha256_hex(b"wh0le")] {
        assert!(message.contains(part.as_str()), "{message}");
    }
}

pub(crate) async fn missing_data_is_named(place: &Place) {
    let store = place.open().await;
    let file = store.put_data("weights", "bin", Bytes::from("gone"), None).await.unwrap();
    store.delete(&file.path).await.unwrap();
    let error = store.get_data(&file).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(error.to_string().contains(&file.path), "{error}");
}
