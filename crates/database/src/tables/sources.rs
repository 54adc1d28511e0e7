//! What is trained on, and what is trained: datasets, features of their pictures, architectures.

use crate::table::table;
use crate::tables::{ARCH_INDEX, AT_LEAST_ONE, NOT_NEGATIVE};

table! {
    /// One row per dataset: a drawn subset of the classes of an image source, or one that imported rows speak of.
    pub struct DatasetRow in "datasets", version 1;
    order(dataset_id);
    key(dataset_id);
    references();
    columns {
        /// Id of the dataset: a hash of its definition.
        deterministic dataset_id: String;
        /// Name, unique within the pipeline, e.g. `tiny/20c-007`.
        deterministic name: String;
        /// Which classes it was drawn from: `meta-train`, `meta-valid`, `meta-test`, or `target` for a
        /// whole source; `imported` where imported rows speak of it.
        deterministic class_group: String;
        /// Name of the image source in `pipeline.yaml`, or of the class source that the import declared.
        deterministic source: String;
        /// Hash of the source's content; of an imported class source, of its name.
        deterministic source_content_id: String;
        /// Labels of its classes in the source, in the order of the network's outputs.
        deterministic class_labels: Vec<i64>;
        /// Names of its classes, in the same order.
        deterministic class_names: Vec<String>;
        /// Number of classes.
        deterministic classes: i64 = AT_LEAST_ONE;
        /// Training pictures; 0 also where an import does not tell.
        deterministic train_pictures: i64 = NOT_NEGATIVE;
        /// Validation pictures; 0 also where an import does not tell.
        deterministic valid_pictures: i64 = NOT_NEGATIVE;
        /// Test pictures; 0 also where an import does not tell.
        deterministic test_pictures: i64 = NOT_NEGATIVE;
        /// Height and width that the pictures are trained at, in pixels.
        deterministic image_size: i64 = AT_LEAST_ONE;
        /// Hash of all pictures of all splits, as drawn, before they are made grey or blurred; empty where imported.
        deterministic data_hash: String;
        /// Where an imported dataset's definition comes from; null where it was drawn here.
        deterministic provenance: Option<String>;
        /// Whether its pictures were reduced to their brightness before anything saw them; null where imported, and in
        /// rows from before there was a choice, when none was.
        deterministic grey: Option<bool>;
        /// Pixels a side to which its pictures were reduced, and from which they were enlarged again, before anything
        /// saw them; null where they were left as they are.
        deterministic resolution: Option<i64> = AT_LEAST_ONE;
    }
}

table! {
    /// One row per cell and network shape: its costs, and the class of cells that compute the same function.
    pub struct ArchitectureRow in "architectures", version 1;
    order(arch_index, channels, cells_per_stage, image_size, classes);
    key(arch_index, channels, cells_per_stage, image_size, classes);
    references();
    columns {
        /// Index of the cell in the order of NATS-Bench, 0 to 15,624.
        deterministic arch_index: i64 = ARCH_INDEX;
        /// The cell as NAS-Bench-201 writes it.
        deterministic cell: String;
        /// Number of its class of cells that compute the same function.
        deterministic canonical_index: i64 = NOT_NEGATIVE;
        /// `arch_index` of the class's representative: the cell that is trained for all of them.
        deterministic representative_index: i64 = ARCH_INDEX;
        /// Channels of the network's first stage.
        deterministic channels: i64 = AT_LEAST_ONE;
        /// Cells in each of the three stages.
        deterministic cells_per_stage: i64 = AT_LEAST_ONE;
        /// Height and width of the pictures, in pixels.
        deterministic image_size: i64 = AT_LEAST_ONE;
        /// Outputs of the network.
        deterministic classes: i64 = AT_LEAST_ONE;
        /// Trainable parameters of this cell's own network.
        deterministic params: i64 = NOT_NEGATIVE;
        /// Multiply-adds for one picture of this cell's own network.
        deterministic flops: i64 = NOT_NEGATIVE;
    }
}

table! {
    /// One row per picture, look and feature extractor.
    pub struct FeatureRow in "features", version 1;
    order(source_content_id, extractor, class_label, picture_index);
    key(source_content_id, extractor, class_label, picture_index, grey, resolution);
    references();
    columns {
        /// Hash of the image source's content; of an imported class source, of its name.
        deterministic source_content_id: String;
        /// The extractor and the hash of its weights.
        deterministic extractor: String;
        /// Label of the picture's class in the source.
        deterministic class_label: i64 = NOT_NEGATIVE;
        /// Position among the pictures of its class, in the source's order, from 0.
        deterministic picture_index: i64 = NOT_NEGATIVE;
        /// Hash of the picture's decoded pixels, before it is made grey or blurred; equal pictures have equal hashes. Of imported features, hash of the vector.
        deterministic picture_hash: String;
        /// The extractor's output.
        deterministic vector: Vec<f32>;
        /// Where an imported vector comes from: the declared source, the file and its row, from 1. Null where it was
        /// extracted here.
        deterministic provenance: Option<String>;
        /// True where the extractor saw the picture's brightness alone; null where it saw its colours.
        deterministic grey: Option<bool>;
        /// Pixels a side to which the picture was reduced, and from which it was enlarged again, before the extractor saw
        /// it; null where it was left as it is.
        deterministic resolution: Option<i64> = AT_LEAST_ONE;
    }
}
