//! A cell as a small graph: four nodes in a row, an edge for each operation.

use maud::{Markup, html};
use metad2a_search_space::{Cell, EDGES, Operation};

/// Of the four nodes.
const X: [f64; 4] = [24.0, 88.0, 152.0, 216.0];
const Y: f64 = 56.0;

/// A drawing with its description; the text as it is where it is no cell.
pub(super) fn drawing(text: &str, arch_index: i64, id: &str) -> Markup {
    let Ok(cell) = text.parse::<Cell>() else { return html! { code { (text) } } };
    let (title, desc) = (format!("{id}-title"), format!("{id}-desc"));
    let live = cell.live_edges();
    html! {
        svg class="cell" viewBox="0 0 240 112" role="img" aria-labelledby=(format!("{title} {desc}")) {
            title id=(title) { "Cell " (arch_index) }
            desc id=(desc) { (described(cell)) }
            @for (edge, operation) in cell.operations().into_iter().enumerate() {
                @if let Some(look) = Look::of(operation) { (drawn(EDGES[edge], &look, live[edge])) }
            }
            @for (node, x) in X.into_iter().enumerate() {
                circle class="node" cx=(x) cy=(Y) r="10" {}
                text x=(x) y=(Y + 4.0) text-anchor="middle" { (node_name(node)) }
            }
        }
    }
}

struct Look {
    name: &'static str,
    class: &'static str,
}

impl Look {
    /// None where there is no edge.
    fn of(operation: Operation) -> Option<Self> {
        let (name, class) = match operation {
            Operation::None => return None,
            Operation::SkipConnect => ("skip", "skip"),
            Operation::NorConv1x1 => ("1×1", "conv1"),
            Operation::NorConv3x3 => ("3×3", "conv3"),
            Operation::AvgPool3x3 => ("pool", "pool"),
        };
        Some(Self { name, class })
    }
}

/// Straight between neighbours, above them from 0 to 2 and below from 1 to 3; the longest arc is the lowest.
fn drawn((source, target): (usize, usize), look: &Look, live: bool) -> Markup {
    // How far the middle of the arc lies below the row of nodes.
    let height = match (source, target) {
        (0, 2) => -34.0,
        (1, 3) => 24.0,
        (0, 3) => 44.0,
        _ => 0.0,
    };
    let middle = f64::midpoint(X[source], X[target]);
    let line = format!("M{} {Y}Q{middle} {} {} {Y}", X[source], Y + 2.0 * height, X[target]);
    html! {
        g class=(if live { look.class.to_owned() } else { format!("{} idle", look.class) }) {
            path d=(line) {}
            text x=(middle) y=(Y + height + if height == 0.0 { -7.0 } else { 4.0 }) text-anchor="middle" { (look.name) }
        }
    }
}

fn node_name(node: usize) -> &'static str {
    ["in", "1", "2", "out"][node]
}

/// The edges in words.
fn described(cell: Cell) -> String {
    let edges = EDGES.iter().zip(cell.operations()).filter_map(|((source, target), operation)| {
        let name = match operation {
            Operation::None => return None,
            Operation::SkipConnect => "skip connection",
            Operation::NorConv1x1 => "1×1 convolution",
            Operation::NorConv3x3 => "3×3 convolution",
            Operation::AvgPool3x3 => "3×3 average pooling",
        };
        Some(format!("{} to {}: {name}", node_name(*source), node_name(*target)))
    });
    let edges: Vec<String> = edges.collect();
    if edges.is_empty() { "No edges at all.".to_owned() } else { format!("{}.", edges.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: &str = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|";

    #[test]
    fn every_edge_but_none_is_drawn_and_told() {
        let text = drawing(CELL, 7, "c").into_string();
        for class in ["conv3", "pool", "skip", "conv1"] {
            assert_eq!(text.matches(&format!("<g class=\"{class}\">")).count(), 1, "{text}");
        }
        assert_eq!(text.matches("<path").count(), 4, "{text}");
        assert!(
            text.contains(
                "in to 1: 3×3 convolution; 1 to 2: 3×3 average pooling; in to out: skip connection; 2 to out: 1×1 convolution."
            ),
            "{text}"
        );
    }

    #[test]
    fn an_edge_that_leads_nowhere_is_faint() {
        let dead_end = CELL.replace("nor_conv_1x1~2", "none~2");
        let text = drawing(&dead_end, 7, "c").into_string();
        assert!(text.contains("conv3 idle") && text.contains("pool idle"), "{text}");
        assert!(text.contains("<g class=\"skip\">"), "{text}");
    }

    #[test]
    fn what_is_no_cell_is_shown_as_text() {
        assert_eq!(drawing("a <b>", 7, "c").into_string(), "<code>a &lt;b&gt;</code>");
    }
}
