//! Parameters and FLOPs against published figures.

use metad2a_search_space::{ArchIndex, CELL_COUNT, Cell, MacroShape, Operation, flops, parameters};
use proptest::prelude::*;

fn numbered(number: u32) -> Cell {
    ArchIndex::try_from(number).expect("below 15,625").cell()
}

#[test]
fn published_parameters_are_met() {
    for (number, published) in
        [(0, 129_306), (11, 802_426), (284, 101_306), (857, 858_426), (9930, 1_288_506)]
    {
        assert_eq!(parameters(numbered(number), MacroShape::nas_bench_201(32, 10)), published, "{number}");
    }
}

#[test]
fn published_multiply_adds_are_met() {
    for (number, image_size, classes, published) in [
        (0, 32, 10, 15_647_370),
        (11, 32, 10, 113_951_370),
        (0, 32, 100, 15_653_220),
        (0, 16, 120, 3_919_480),
    ] {
        let shape = MacroShape::nas_bench_201(image_size, classes);
        assert_eq!(flops(numbered(number), shape), published, "{number} {shape:?}");
    }
}

#[test]
fn small_reference_networks_have_their_parameters() {
    // Counted in the reference implementation. In the last cell one convolution feeds nothing and one reads zero.
    let shape = MacroShape { channels: 4, cells_per_stage: 1, image_size: 32, classes: 10 };
    let dead =
        "|none~0|+|nor_conv_3x3~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|".parse().expect("a cell");
    for (cell, counted) in [(numbered(9930), 20_294), (numbered(0), 5_678), (dead, 8_366)] {
        assert_eq!(parameters(cell, shape), counted, "{cell}");
    }
}

#[test]
fn the_costs_of_all_cells_are_pinned_for_ever() {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for cell in ArchIndex::all().map(ArchIndex::cell) {
        for (image_size, classes) in [(32, 10), (32, 100), (16, 120)] {
            let shape = MacroShape::nas_bench_201(image_size, classes);
            for byte in [parameters(cell, shape), flops(cell, shape)].map(u64::to_le_bytes).as_flattened() {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    assert_eq!(format!("{hash:016x}"), "04676667887c3136");
}

#[test]
fn absurd_shapes_saturate() {
    let shape =
        MacroShape { channels: u64::MAX, cells_per_stage: u64::MAX, image_size: u64::MAX, classes: u64::MAX };
    assert_eq!(parameters(numbered(0), shape), u64::MAX);
    assert_eq!(flops(numbered(0), shape), u64::MAX);
}

/// The published table of all cells: number, string, parameters and 10⁶ multiply-adds (without the classifier's bias).
#[test]
#[ignore = "needs the benchmark's table as CSV (arch_index, arch, params_10_classes, mflops_10_classes): name it in METAD2A_NAS_BENCH_CSV"]
#[expect(clippy::float_cmp, reason = "whole numbers and a printed 1 are exact")]
fn all_cells_agree_with_the_published_table_needs_external() {
    let path = std::env::var("METAD2A_NAS_BENCH_CSV").expect("METAD2A_NAS_BENCH_CSV names the table");
    let table = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let [index, arch, params, mflops, cifar100, imagenet16] = [
        "arch_index",
        "arch",
        "params_10_classes",
        "mflops_10_classes",
        "cifar100_test_acc_200",
        "imagenet16_120_test_acc_200",
    ]
    .map(|name| {
        header.iter().position(|column| *column == name).unwrap_or_else(|| panic!("no column {name}"))
    });
    let shape = MacroShape::nas_bench_201(32, 10);
    let mut rows = 0;
    for line in lines {
        let row: Vec<&str> = line.split(',').collect();
        let number =
            |column: usize| row[column].parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
        let cell: Cell = row[arch].parse().expect(line);
        assert_eq!(f64::from(cell.index().get()), number(index), "{line}");
        assert_eq!(parameters(cell, shape) as f64, number(params), "{line}");
        let without_bias = (flops(cell, shape) - shape.classes) as f64 / 1e6;
        assert!((without_bias - number(mflops)).abs() < 1e-9, "{line}");
        // Cells whose output ignores the input, and only they, are at chance on both data sets.
        let at_chance = number(cifar100) == 1.0 && (number(imagenet16) - 100.0 / 120.0).abs() < 1e-3;
        assert_eq!(cell.is_always_zero(), at_chance, "{line}");
        rows += 1;
    }
    assert_eq!(rows, CELL_COUNT);
}

fn cells() -> impl Strategy<Value = Cell> {
    (0..CELL_COUNT as u32).prop_map(numbered)
}

fn shapes() -> impl Strategy<Value = MacroShape> {
    (1..64_u64, 1..8_u64, 1..17_u64, 1..1000_u64).prop_map(|(channels, cells_per_stage, quarter, classes)| {
        MacroShape { channels, cells_per_stage, image_size: 4 * quarter, classes }
    })
}

proptest! {
    #[test]
    fn costs_equal_the_closed_formulas(cell in cells(), shape in shapes()) {
        let count = |wanted| cell.operations().iter().filter(|operation| **operation == wanted).count() as u64;
        let (large, small) = (count(Operation::NorConv3x3), count(Operation::NorConv1x1));
        let MacroShape { channels: c, cells_per_stage: n, image_size, classes: k } = shape;
        let pixels = image_size * image_size;
        prop_assert_eq!(
            parameters(cell, shape),
            280 * c * c + 61 * c + (4 * c + 1) * k
                + n * (large * (189 * c * c + 14 * c) + small * (21 * c * c + 14 * c))
        );
        prop_assert_eq!(
            flops(cell, shape),
            pixels * (27 * c + 28 * c * c + n * (27 * large + 3 * small) * c * c) + (4 * c + 1) * k
        );
    }

    #[test]
    fn a_heavier_operation_never_makes_a_cheaper_cell(cell in cells(), shape in shapes(), edge in 0..6_usize) {
        let with = |operation| {
            let mut operations = cell.operations();
            operations[edge] = operation;
            let changed = Cell::new(operations);
            (parameters(changed, shape), flops(changed, shape))
        };
        let free = with(Operation::None);
        prop_assert_eq!(free, with(Operation::SkipConnect));
        prop_assert_eq!(free, with(Operation::AvgPool3x3));
        let (small, large) = (with(Operation::NorConv1x1), with(Operation::NorConv3x3));
        prop_assert!(free.0 < small.0 && small.0 < large.0 && free.1 < small.1 && small.1 < large.1);
    }

    #[test]
    fn more_of_anything_never_costs_less(cell in cells(), shape in shapes()) {
        for larger in [
            MacroShape { channels: shape.channels + 1, ..shape },
            MacroShape { cells_per_stage: shape.cells_per_stage + 1, ..shape },
            MacroShape { image_size: shape.image_size + 4, ..shape },
            MacroShape { classes: shape.classes + 1, ..shape },
        ] {
            prop_assert!(parameters(cell, larger) >= parameters(cell, shape));
            prop_assert!(flops(cell, larger) >= flops(cell, shape));
        }
    }
}
