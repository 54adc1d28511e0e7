//! Draws the splits of a dataset from labelled pictures. Pure.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::{Error, LabelledPicture, Picture, Result, Split, SplitFractions, split_of};

/// A class with fewer training pictures cannot be learnt.
pub const LEAST_TRAIN_PER_CLASS: usize = 5;

/// What is to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetDraw {
    /// Labels in the source; their order numbers the classes of the dataset from 0.
    pub classes: Vec<u32>,
    /// The most pictures of each class; fewer are taken where there are fewer.
    pub train_per_class: u32,
    pub valid_per_class: u32,
    pub test_per_class: u32,
    pub fractions: SplitFractions,
    /// Names the dataset: the same key draws the same pictures.
    pub key: String,
}

/// A picture of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawnPicture<'a> {
    /// From 0, in the order of [`DatasetDraw::classes`].
    pub class: u32,
    pub picture: &'a Picture,
    pub hash: &'a str,
}

/// The three splits of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawnDataset<'a> {
    /// Number of classes.
    pub classes: u32,
    pub train: Vec<DrawnPicture<'a>>,
    pub valid: Vec<DrawnPicture<'a>>,
    pub test: Vec<DrawnPicture<'a>>,
}

/// Draws a dataset. Equal pictures of a class are taken once, and a picture that lies in two classes of the dataset in
/// neither: no network could tell which is meant. The outcome does not depend on the order of `pictures`.
pub fn draw<'a>(pictures: &'a [LabelledPicture], wanted: &DatasetDraw) -> Result<DrawnDataset<'a>> {
    let mut drawn = DrawnDataset {
        classes: wanted.classes.len() as u32,
        train: Vec::new(),
        valid: Vec::new(),
        test: Vec::new(),
    };
    let labels: HashSet<u32> = wanted.classes.iter().copied().collect();
    if labels.len() < wanted.classes.len() {
        return Err(Error::ClassTwice { key: wanted.key.clone() });
    }
    let ambiguous = ambiguous(pictures, &labels);
    for (class, label) in wanted.classes.iter().enumerate() {
        let mut of_class = in_keyed_order(pictures, *label, &wanted.key);
        of_class.retain(|picture| !ambiguous.contains(picture.hash.as_str()));
        // Nobody has to ask for validation or test pictures, but whoever does gets at least one.
        for (split, name, most, least) in [
            (Split::Train, "training", wanted.train_per_class, LEAST_TRAIN_PER_CLASS),
            (Split::Valid, "validation", wanted.valid_per_class, wanted.valid_per_class.min(1) as usize),
            (Split::Test, "test", wanted.test_per_class, wanted.test_per_class.min(1) as usize),
        ] {
            let of_split =
                of_class.iter().filter(|picture| split_of(&picture.hash, &wanted.fractions) == split);
            let chosen: Vec<&LabelledPicture> = of_split.take(most as usize).copied().collect();
            if chosen.len() < least {
                return Err(Error::ClassTooSmall {
                    key: wanted.key.clone(),
                    label: *label,
                    split: name,
                    found: chosen.len(),
                    wanted: least,
                });
            }
            let part = match split {
                Split::Train => &mut drawn.train,
                Split::Valid => &mut drawn.valid,
                Split::Test => &mut drawn.test,
            };
            part.extend(chosen.into_iter().map(|picture| DrawnPicture {
                class: class as u32,
                picture: &picture.picture,
                hash: &picture.hash,
            }));
        }
    }
    Ok(drawn)
}

/// Hashes of the pictures that lie in more than one of the classes.
fn ambiguous<'a>(pictures: &'a [LabelledPicture], labels: &HashSet<u32>) -> HashSet<&'a str> {
    let mut first: HashMap<&str, u32> = HashMap::new();
    let of_dataset = pictures.iter().filter(|picture| labels.contains(&picture.label));
    of_dataset
        .filter(|picture| *first.entry(&picture.hash).or_insert(picture.label) != picture.label)
        .map(|picture| picture.hash.as_str())
        .collect()
}

/// The distinct pictures of a class, ordered by a hash of key and pixels.
fn in_keyed_order<'a>(pictures: &'a [LabelledPicture], label: u32, key: &str) -> Vec<&'a LabelledPicture> {
    let mut seen = HashSet::new();
    let of_class =
        pictures.iter().filter(|picture| picture.label == label && seen.insert(picture.hash.as_str()));
    let mut keyed: Vec<([u8; 32], &LabelledPicture)> = of_class
        .map(|picture| (Sha256::digest(format!("draw/{key}/{}", picture.hash)).into(), picture))
        .collect();
    keyed.sort_by_key(|(place, _)| *place);
    keyed.into_iter().map(|(_, picture)| picture).collect()
}

/// SHA-256 over every drawn picture with its split and class: names exactly what was trained on.
pub fn data_hash(drawn: &DrawnDataset<'_>) -> String {
    let mut hash = Sha256::new();
    for (split, pictures) in [("train", &drawn.train), ("valid", &drawn.valid), ("test", &drawn.test)] {
        for picture in pictures {
            hash.update(format!("{split} {} {}\n", picture.class, picture.hash));
        }
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRACTIONS: SplitFractions = SplitFractions { train: 0.6, valid: 0.2, test: 0.2 };

    fn pictures(classes: u32, per_class: u32) -> Vec<LabelledPicture> {
        let mut all = Vec::new();
        for label in 0..classes {
            for number in 0..per_class {
                let [low, high, ..] = number.to_le_bytes();
                let picture = Picture { width: 1, height: 1, rgb: vec![label as u8, low, high] };
                let hash = picture.pixel_hash();
                all.push(LabelledPicture { label, picture, hash });
            }
        }
        all
    }

    fn wanted(classes: Vec<u32>, key: &str) -> DatasetDraw {
        DatasetDraw {
            classes,
            train_per_class: 10,
            valid_per_class: 4,
            test_per_class: 3,
            fractions: FRACTIONS,
            key: key.to_owned(),
        }
    }

    #[test]
    fn no_picture_is_in_two_splits_of_any_two_datasets() {
        let pictures = pictures(3, 80);
        let one = draw(&pictures, &wanted(vec![2, 0], "one")).unwrap();
        let other = draw(&pictures, &wanted(vec![0, 1, 2], "other")).unwrap();
        let hashes = |part: &[DrawnPicture<'_>]| {
            part.iter().map(|picture| picture.hash.to_owned()).collect::<HashSet<_>>()
        };
        let train: HashSet<_> = hashes(&one.train).union(&hashes(&other.train)).cloned().collect();
        let held_out: HashSet<_> = hashes(&one.test).union(&hashes(&other.valid)).cloned().collect();
        assert!(train.is_disjoint(&held_out));
        assert_eq!((one.train.len(), one.valid.len(), one.test.len()), (20, 8, 6));
        assert_eq!(one.train[0].picture.rgb[0], 2, "class 0 of the dataset is the first label asked for");
    }

    #[test]
    fn a_class_with_too_few_pictures_is_refused_with_dataset_class_and_counts() {
        let error = draw(&pictures(2, 4), &wanted(vec![0, 1], "small")).unwrap_err().to_string();
        assert!(error.starts_with("dataset `small`: class 0 has "), "{error}");
        assert!(error.contains("training pictures and needs 5"), "{error}");
    }

    #[test]
    fn equal_pictures_count_once() {
        let mut twice = pictures(1, 60);
        twice.extend(pictures(1, 60));
        let first = pictures(1, 60);
        assert_eq!(
            draw(&twice, &wanted(vec![0], "k")).unwrap(),
            draw(&first, &wanted(vec![0], "k")).unwrap()
        );
    }

    #[test]
    fn a_picture_in_two_classes_is_in_neither() {
        let mut pictures = pictures(2, 80);
        let shared: Vec<LabelledPicture> =
            pictures[..30].iter().map(|picture| LabelledPicture { label: 1, ..picture.clone() }).collect();
        let shared_hashes: HashSet<String> = shared.iter().map(|picture| picture.hash.clone()).collect();
        pictures.extend(shared);
        let drawn = draw(&pictures, &wanted(vec![0, 1], "k")).unwrap();
        assert!(drawn.train.iter().chain(&drawn.valid).all(|picture| !shared_hashes.contains(picture.hash)));
        assert_eq!(drawn.train.len(), 20);
    }

    #[test]
    fn a_class_named_twice_is_refused() {
        let error = draw(&pictures(1, 80), &wanted(vec![0, 0], "k")).unwrap_err();
        assert_eq!(error.to_string(), "dataset `k` names a class twice; each may be named once");
    }

    /// A silent change would move pictures between training and test in every database that exists.
    #[test]
    fn splits_and_order_are_pinned_for_ever() {
        let pictures = pictures(1, 60);
        let drawn = draw(&pictures, &wanted(vec![0], "pinned")).unwrap();
        let numbers =
            |part: &[DrawnPicture<'_>]| part.iter().map(|picture| picture.picture.rgb[1]).collect::<Vec<_>>();
        assert_eq!(numbers(&drawn.train), TRAIN);
        assert_eq!(numbers(&drawn.test), TEST);
        assert_eq!(data_hash(&drawn)[..16], *"ab665ac91bdeff8a");
    }
    const TRAIN: [u8; 10] = [56, 6, 13, 4, 1, 49, 57, 52, 18, 19];
    const TEST: [u8; 3] = [33, 30, 14];

    proptest! {
        #[test]
        fn the_order_of_the_source_does_not_matter(turn in 0..160_usize) {
            let pictures = pictures(2, 80);
            let mut turned = pictures.clone();
            turned.rotate_left(turn);
            let request = wanted(vec![1, 0], "k");
            let (calm, other) = (draw(&pictures, &request).unwrap(), draw(&turned, &request).unwrap());
            prop_assert_eq!(data_hash(&calm), data_hash(&other));
        }
    }

    #[test]
    fn another_key_draws_other_pictures() {
        let pictures = pictures(1, 80);
        let one = draw(&pictures, &wanted(vec![0], "one")).unwrap();
        let other = draw(&pictures, &wanted(vec![0], "other")).unwrap();
        assert_ne!(data_hash(&one), data_hash(&other));
    }
}
