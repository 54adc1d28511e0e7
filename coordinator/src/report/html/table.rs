//! Tables that scroll inside their own box, and how numbers are written.

use maud::{Markup, html};

pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table whose first cell of each row names the row.
pub(super) fn table(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    let class = |column: &Column| matches!(column, Column::Number(_)).then_some("n");
    html! {
        div class="box" role="region" aria-label=(caption) tabindex="0" {
            table {
                caption { span { (caption) } }
                thead { tr {
                    @for column in columns {
                        @let (Column::Text(heading) | Column::Number(heading)) = column;
                        th scope="col" class=[class(column)] { (heading) }
                    }
                } }
                tbody {
                    @for row in rows { tr {
                        @for (place, (cell, column)) in row.iter().zip(columns).enumerate() {
                            @if place == 0 { th scope="row" class=[class(column)] { (cell) } }
                            @else { td class=[class(column)] { (cell) } }
                        }
                    } }
                }
            }
        }
    }
}

/// A table behind a line that opens it.
pub(super) fn folded(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    html! { details { summary { (caption) } (table(caption, columns, rows)) } }
}

pub(super) fn text(value: impl std::fmt::Display) -> Markup {
    html! { (value.to_string()) }
}

/// A share in [0, 1] in per cent, or a dash.
pub(super) fn percent(share: Option<f64>) -> Markup {
    text(share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", share * 100.0)))
}

/// The same for an axis.
pub(super) fn percent_label(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// With two to three digits and a letter: 2.28 M.
pub(super) fn large(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, " G"),
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short}{unit}")
}

pub(super) fn hours(hours: f64) -> String {
    if hours < 0.01 { format!("{:.0} s", hours * 3600.0) } else { format!("{hours:.2} h") }
}

/// The beginning of an id, which is unique in all likelihood.
pub(super) fn short(id: &str) -> Markup {
    html! { code title=(id) { (id.get(..12).unwrap_or(id)) } }
}

pub(super) fn correlation(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:+.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        assert_eq!(
            [950.0, 67_570.0, 2_283_850.0, 5e6, 1.5e9].map(large),
            ["950", "67.57 k", "2.28 M", "5 M", "1.5 G"]
        );
        assert_eq!([0.001, 0.836].map(hours), ["4 s", "0.84 h"]);
        assert_eq!([0.8, 0.775].map(percent_label), ["80", "77.5"]);
        assert_eq!(correlation(Some(-0.5)), "-0.50");
    }

    #[test]
    fn every_table_has_a_caption_and_says_what_its_headings_head() {
        let rows = [vec![text("a & b"), text(1)]];
        let page = table("Cells", &[Column::Text("name"), Column::Number("n")], &rows).into_string();
        assert!(page.contains("<caption><span>Cells</span></caption>"), "{page}");
        assert!(page.contains("<th scope=\"row\">a &amp; b</th><td class=\"n\">1</td>"), "{page}");
        assert_eq!(page.matches("scope=\"col\"").count(), 2, "{page}");
    }
}
