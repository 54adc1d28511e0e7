//! The levels of equivalence: published and derived counts, and what a class promises.

use std::collections::{HashMap, HashSet};

use metad2a_search_space::{ArchIndex, CELL_COUNT, Cell, Level, Operation, classes};

fn cell(text: &str) -> Cell {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// How many classes of `coarse` hold cells of more than one class of `fine`.
fn split(coarse: Level, fine: Level) -> usize {
    let coarse = classes(coarse);
    coarse
        .representatives()
        .filter(|first| coarse.members(*first).iter().any(|member| member.class(fine) != first.class(fine)))
        .count()
}

#[test]
fn every_level_has_its_golden_number_of_classes() {
    let counts = Level::ALL.map(|level| (level, classes(level).count()));
    let golden = [
        (Level::L0, 15_625),
        (Level::L1, 12_751),
        (Level::L2, 6_466),
        (Level::L3, 5_390),
        (Level::L4, 4_930),
        (Level::L5, 4_660),
        (Level::Trained, 5_228),
    ];
    assert_eq!(counts, golden);
}

#[test]
fn the_zero_class_holds_the_341_cells_that_ignore_their_input() {
    for level in [Level::L3, Level::L4, Level::L5, Level::Trained] {
        let zero: HashSet<Cell> = Cell::all().filter(|cell| cell.canonical_form(level) == "#").collect();
        assert_eq!(zero.len(), 341, "{level}");
        assert!(Cell::all().all(|cell| cell.is_always_zero() == zero.contains(&cell)), "{level}");
    }
}

#[test]
fn the_largest_classes_of_level_3_are_the_derived_ones() {
    let mut sizes: HashMap<String, usize> = HashMap::new();
    for cell in Cell::all() {
        *sizes.entry(cell.canonical_form(Level::L3)).or_default() += 1;
    }
    let golden = [
        ("(0)@nor_conv_1x1", 460),
        ("(0)@nor_conv_3x3", 460),
        ("(0)@avg_pool_3x3", 460),
        ("0", 400),
        ("#", 341),
    ];
    for (form, size) in golden {
        assert_eq!(sizes[form], size, "{form}");
    }
    assert_eq!(sizes.values().filter(|size| **size == 1).count(), 4_321);
}

#[test]
fn level_4_has_its_golden_number_of_singletons() {
    let level = classes(Level::L4);
    assert_eq!(level.representatives().filter(|cell| level.members(*cell).len() == 1).count(), 3_724);
}

#[test]
fn the_authors_zero_test_does_not_see_a_sum_of_two_zeros() {
    let zero = cell("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|");
    assert_eq!(zero.canonical_form(Level::L2), "#+#+(#+#)@nor_conv_1x1");
    assert_eq!(zero.canonical_form(Level::L3), "#");
}

#[test]
fn flat_sums_merge_what_nested_sums_keep_apart() {
    let first =
        cell("|skip_connect~0|+|none~0|skip_connect~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|");
    let other =
        cell("|skip_connect~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|nor_conv_3x3~1|skip_connect~2|");
    assert_ne!(first.class(Level::L3), other.class(Level::L3));
    assert_eq!(first.class(Level::L4), other.class(Level::L4));
    assert_eq!(first.canonical_class(), other.canonical_class());
}

#[test]
fn pooling_a_sum_is_the_sum_of_pools_from_level_5_on() {
    let pooled_sum = cell("|nor_conv_1x1~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|");
    let sum_of_pools =
        cell("|skip_connect~0|+|nor_conv_1x1~0|none~1|+|none~0|avg_pool_3x3~1|avg_pool_3x3~2|");
    assert_ne!(pooled_sum.class(Level::L4), sum_of_pools.class(Level::L4));
    assert_eq!(pooled_sum.class(Level::L5), sum_of_pools.class(Level::L5));
    assert_eq!(pooled_sum.canonical_form(Level::Trained), "a=nor_conv_1x1(0);pool(0)+pool(a)");
    assert_eq!(pooled_sum.canonical_class(), sum_of_pools.canonical_class());
}

#[test]
fn only_the_trained_level_tells_a_shared_convolution_from_two() {
    let shared = cell("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|");
    let separate = cell("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_3x3~0|skip_connect~1|none~2|");
    for level in [Level::L3, Level::L4, Level::L5] {
        assert_eq!(shared.class(level), separate.class(level), "{level}");
    }
    assert_ne!(shared.canonical_class(), separate.canonical_class());
    assert_eq!(shared.canonical_form(Level::Trained), "a=nor_conv_3x3(0);a+a");
    assert_eq!(separate.canonical_form(Level::Trained), "a=nor_conv_3x3(0);b=nor_conv_3x3(0);a+b");
}

#[test]
fn a_convolution_of_zero_is_a_bias_whatever_its_kernel_and_only_the_trained_level_keeps_it() {
    let small = cell("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|nor_conv_1x1~1|none~2|");
    let large = cell("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|nor_conv_3x3~1|none~2|");
    let pooled = cell("|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|");
    let without = cell("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|");
    assert_eq!(small.canonical_form(Level::Trained), "a=bias;b=nor_conv_3x3(0);a+b");
    assert_eq!(small.canonical_class(), large.canonical_class());
    assert_eq!(small.canonical_class(), pooled.canonical_class());
    assert_ne!(small.canonical_class(), without.canonical_class());
    assert_eq!(small.class(Level::L5), without.class(Level::L5));
}

#[test]
fn levels_nest_except_where_their_documentation_says_so() {
    for (coarse, fine) in [
        (Level::L1, Level::L0),
        (Level::L3, Level::L2),
        (Level::L4, Level::L3),
        (Level::L5, Level::L4),
        (Level::L5, Level::L1),
        (Level::L5, Level::Trained),
    ] {
        for member in Cell::all() {
            let first = member.class(fine).representative();
            assert_eq!(first.class(coarse), member.class(coarse), "{member}: {fine} inside {coarse}");
        }
    }
    assert!(split(Level::L1, Level::L2) > 0, "level 2 splits classes of level 1");
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        assert!(split(level, Level::Trained) > 0, "`Trained` splits classes of {level}");
        assert!(split(Level::Trained, level) > 0, "`Trained` merges classes of {level}");
    }
}

#[test]
fn level_5_mixes_different_trained_functions_in_415_classes() {
    assert_eq!(split(Level::L5, Level::Trained), 415);
}

#[test]
fn a_class_is_named_by_its_smallest_member_and_its_form_is_that_members_form() {
    for level in Level::ALL {
        let table = classes(level);
        let mut seen = 0;
        for (number, first) in table.representatives().enumerate() {
            let members = table.members(first);
            assert_eq!(members[0], first);
            assert!(members.is_sorted_by_key(|member| member.index()), "{level} {first}");
            for member in members {
                let id = member.class(level);
                assert_eq!((id.representative(), id.index(), id.class()), (first, first.index(), number));
                assert_eq!(id.get(), first.index().get());
                // Idempotent: the representative stands for itself.
                assert_eq!(id.representative().class(level), id);
            }
            let form = first.canonical_form(level);
            assert_eq!(members[members.len() - 1].canonical_form(level), form, "{level}");
            seen += members.len();
        }
        assert_eq!(seen, CELL_COUNT, "{level}");
        assert!(table.representatives().is_sorted_by_key(Cell::index), "{level}");
    }
}

#[test]
fn the_product_trains_the_representative_at_its_canonical_level() {
    for cell in Cell::all() {
        assert_eq!(cell.canonical_class(), cell.class(Level::CANONICAL));
        assert_eq!(cell.representative(), cell.canonical_class().representative());
    }
}

#[test]
fn an_edge_without_effect_on_the_output_has_none_on_the_class() {
    for cell in Cell::all() {
        let reaching = cell.edges_reaching_output();
        let mut operations = cell.operations();
        for (operation, kept) in operations.iter_mut().zip(reaching) {
            if !kept {
                *operation = Operation::None;
            }
        }
        assert_eq!(Cell::new(operations).canonical_class(), cell.canonical_class(), "{cell}");
    }
}

#[test]
fn live_edges_decide_the_class_where_biases_do_not_count() {
    for cell in Cell::all() {
        let mut operations = cell.operations();
        for (operation, live) in operations.iter_mut().zip(cell.live_edges()) {
            if !live {
                *operation = Operation::None;
            }
        }
        assert_eq!(Cell::new(operations).class(Level::L5), cell.class(Level::L5), "{cell}");
    }
}

#[test]
fn liveness_of_a_cell_is_as_drawn() {
    // 1 is zero, so 1→2 carries nothing but its bias; 2→3 is none, so 0→2 and 1→2 end nowhere.
    let dead_end = cell("|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|none~2|");
    assert_eq!(dead_end.live_edges(), [false, false, false, true, false, false]);
    assert_eq!(dead_end.edges_reaching_output(), [false, false, false, true, true, false]);
    let all = cell(
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
    );
    assert_eq!(all.live_edges(), [true; 6]);
}

#[test]
fn classes_are_pinned_for_ever() {
    // FNV-1a over the ids of all cells in the benchmark's order: unit ids and rows of the database contain them.
    let hash = ArchIndex::all()
        .flat_map(|index| index.cell().canonical_class().get().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(format!("{hash:016x}"), "7aed42cec21f321e");
}
