//! The five operations an edge of a cell may hold.

use std::fmt;
use std::str::FromStr;

/// What an edge of a cell does to the features of the node it leaves. All keep the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Operation {
    /// No edge: contributes zero.
    None = 0,
    /// The identity.
    SkipConnect = 1,
    /// `ReLU`, 1×1 convolution without bias, batch normalisation.
    NorConv1x1 = 2,
    /// `ReLU`, 3×3 convolution (padding 1) without bias, batch normalisation.
    NorConv3x3 = 3,
    /// 3×3 average (stride 1, padding 1) that does not count the padding.
    AvgPool3x3 = 4,
}

impl Operation {
    /// All operations in the order of their ids, which is the benchmark's.
    pub const ALL: [Self; 5] =
        [Self::None, Self::SkipConnect, Self::NorConv1x1, Self::NorConv3x3, Self::AvgPool3x3];

    /// The name in cell strings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SkipConnect => "skip_connect",
            Self::NorConv1x1 => "nor_conv_1x1",
            Self::NorConv3x3 => "nor_conv_3x3",
            Self::AvgPool3x3 => "avg_pool_3x3",
        }
    }

    /// The number 0..=4 of the operation; its place in [`Operation::ALL`].
    pub const fn id(self) -> usize {
        self as usize
    }

    /// Does the operation have weights (a convolution and its batch normalisation)?
    pub const fn is_convolution(self) -> bool {
        matches!(self, Self::NorConv1x1 | Self::NorConv3x3)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A text that names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not an operation; the operations are `none`, `skip_connect`, `nor_conv_1x1`, `nor_conv_3x3` and \
     `avg_pool_3x3`"
)]
pub struct UnknownOperation {
    /// The text.
    pub found: String,
}

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        Self::ALL
            .into_iter()
            .find(|operation| operation.name() == text)
            .ok_or_else(|| UnknownOperation { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_found_by_its_name_and_by_its_id() {
        for (id, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.id(), id);
            assert_eq!(operation.name().parse(), Ok(operation));
        }
        let error = "max_pool_3x3".parse::<Operation>().expect_err("no such operation");
        assert!(error.to_string().starts_with("`max_pool_3x3` is not an operation"), "{error}");
    }
}
