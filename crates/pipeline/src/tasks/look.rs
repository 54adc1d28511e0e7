//! How the pictures of a dataset are changed before a network or an extractor sees them.

use serde::{Deserialize, Serialize};

/// What is left of a dataset's pictures. It is part of a dataset's id and of its features'; the usual look is left out
/// of both, so that they are those from before there was a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Brightness alone, in all three channels.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grey: bool,
    /// Reduced to at most so many pixels a side, and enlarged to its size again; none: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<u32>,
}

impl Look {
    /// Pictures as they are.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{
        Dataset, ExtractFeatures, Extractor, ExtractorKind, Fractions, PicturesPerClass, Task,
    };

    fn dataset(look: Look) -> Dataset {
        Dataset {
            source: "ab".repeat(32),
            classes: vec![1, 4],
            per_class: PicturesPerClass { train: 10, valid: 5, test: 5 },
            fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
            look,
        }
    }

    fn looks() -> [Look; 4] {
        [(false, None), (true, None), (false, Some(8)), (true, Some(8))]
            .map(|(grey, resolution)| Look { grey, resolution })
    }

    #[test]
    fn every_look_makes_another_dataset_and_other_features() {
        let extractor =
            Extractor { kind: ExtractorKind::Resnet18, weights_sha256: "ef".repeat(32), image_size: 32 };
        let features = |look| {
            Task::ExtractFeatures(ExtractFeatures {
                source: "ab".repeat(32),
                classes: vec![0, 1],
                fractions: dataset(look).fractions,
                images_per_class: 20,
                extractor: extractor.clone(),
                look,
            })
        };
        for ids in [looks().map(|look| dataset(look).id()), looks().map(|look| features(look).id())] {
            assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        }
    }

    /// A worker that knows less must not work on what it does not understand.
    #[test]
    fn a_look_is_read_as_it_was_written_and_an_unknown_change_is_refused() {
        for look in looks() {
            let json = serde_json::to_string(&dataset(look)).unwrap();
            assert_eq!(json.contains("look"), !look.is_usual(), "{json}");
            assert_eq!(serde_json::from_str::<Dataset>(&json).unwrap(), dataset(look));
        }
        assert!(serde_json::from_str::<Look>(r#"{"mirrored": true}"#).is_err());
    }
}
