//! Image sources → labelled pictures → the splits of a dataset.
//!
//! ```text
//!   SourceLocation ─► index ─────────► content id, classes and their sizes
//!        │
//!        └─────────► read_classes ──► labelled pictures ─► draw ─► train, valid, test
//! ```
//!
//! Five forms are read: Hugging-Face-style Parquet, IDX, CIFAR-10 and CIFAR-100 binary files, and folders of image
//! files, from local paths and from object stores. A path may be a pattern or a folder that grows. Every picture becomes 8-bit RGB: grey is copied to three channels,
//! 16-bit samples keep their upper bits, transparency is laid over white, animations give their first frame.
//!
//! **Invariants:** a source's content id depends on its content alone, not on where it lies. The split of a picture is
//! a function of its decoded pixels alone, so no picture is a test picture here and a training picture there.
//! Deliberately absent: augmentation (a matter of training) and labels that are not whole numbers.

mod cifar;
mod dataset;
mod error;
mod files;
mod folder;
mod idx;
mod parquet;
mod patterns;
mod picture;
mod source;
mod split;

pub use dataset::{DatasetDraw, DrawnDataset, DrawnPicture, LEAST_TRAIN_PER_CLASS, data_hash, draw};
pub use error::{Error, Result};
pub use picture::Picture;
pub use source::{
    ClassEntry, LabelledPicture, SourceFormat, SourceIndex, SourceLocation, index, read_classes, read_indexed,
};
pub use split::{Split, SplitFractions, split_of};
