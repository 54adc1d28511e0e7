use chrono::DateTime;

use super::*;
use crate::report::figures::SetAside;
use crate::report::figures::tests::{snapshot, tables};

fn figures() -> Figures {
    let task = SetAside {
        id: "0123456789abcdef".to_owned(),
        kind: Some("evaluate".to_owned()),
        state: "failed".to_owned(),
        at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        reason: Some("killed by signal 9".to_owned()),
    };
    Figures::new(&snapshot(), &tables(), vec![task])
}

/// Of every attribute of this name.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    page.split(&format!(" {name}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_page_names_nothing_outside_itself() {
    let page = page(&figures());
    for word in ["http:", "https:", "//", "src=", "<script", "<link", "@import", "url("] {
        assert!(!page.replace("</", "").contains(word), "`{word}` in the page");
    }
    let links = attributes(&page, "href");
    assert!(!links.is_empty() && links.iter().all(|link| link.starts_with('#')), "{links:?}");
}

#[test]
fn every_reference_within_the_page_leads_somewhere_and_every_id_is_unique() {
    let page = page(&figures());
    let mut ids = attributes(&page, "id");
    for link in attributes(&page, "href") {
        assert!(ids.contains(&link.trim_start_matches('#')), "{link}");
    }
    for label in attributes(&page, "aria-labelledby").iter().flat_map(|labels| labels.split(' ')) {
        assert!(ids.contains(&label), "{label}");
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn every_picture_that_is_no_ornament_has_a_title_and_says_what_it_shows() {
    let page = page(&figures());
    let pictures = page.matches("role=\"img\"").count();
    assert!(pictures >= 8, "{pictures}: three cells and five plots");
    assert_eq!(page.matches("<svg").count(), pictures + page.matches("aria-hidden=\"true\"").count());
    assert_eq!(page.matches("<desc").count(), pictures);
    assert!(!page.contains("></desc>"), "an empty description");
}

#[test]
fn every_element_of_a_picture_is_closed() {
    let page = page(&figures());
    for element in ["svg", "g", "path", "line", "circle", "text", "title", "desc"] {
        let start = format!("<{element}");
        let opened = page.split(&start).skip(1);
        let opened = opened.filter(|rest| rest.starts_with([' ', '>'])).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn headings_go_down_by_one_level_at_a_time() {
    let page = page(&figures());
    let levels: Vec<usize> = page
        .split("<h")
        .skip(1)
        .filter_map(|rest| rest.chars().next()?.to_digit(10).map(|level| level as usize))
        .collect();
    assert_eq!(levels[0], 1);
    assert!(levels.windows(2).all(|pair| pair[1] > 1 && pair[1] <= pair[0] + 1), "{levels:?}");
}

#[test]
fn the_page_tells_results_cost_and_what_was_set_aside() {
    let page = page(&figures());
    assert!(
        page.contains(
            "4 networks trained on 2 datasets with 1.00 h of device time for training steps; cells searched for 1 dataset never seen in training."
        ),
        "{page}"
    );
    assert!(
        page.contains("On the Pareto front of 3 measured cells are, cheapest first: random 1, chosen 1."),
        "{page}"
    );
    assert!(page.contains("correlation is +0.50 over 3 cells; so few say little."), "{page}");
    assert!(page.contains("killed by signal 9"), "{page}");
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let one = figures().set_aside.remove(0);
    let mut figures = figures();
    figures.set_aside = vec![one; 60];
    let page = page(&figures);
    assert_eq!(page.matches("killed by signal 9").count(), 50);
    assert!(page.contains("10 further tasks are not listed here."), "{page}");
}

#[test]
fn names_from_outside_are_shown_as_they_are_written() {
    let name = "<script>\"a & b\"</script>";
    let mut snapshot = snapshot();
    snapshot.pipeline = name.to_owned();
    snapshot.notes = vec![name.to_owned()];
    let mut tables = tables();
    tables.searches[0].dataset_name = name.to_owned();
    tables.datasets[0].name = name.to_owned();
    tables.candidates[0].cell = name.to_owned();
    tables.evaluations[0].device = name.to_owned();
    let page = page(&Figures::new(&snapshot, &tables, Vec::new()));
    assert!(!page.contains("<script>"));
    assert!(page.matches("&lt;script&gt;&quot;a &amp; b&quot;&lt;/script&gt;").count() >= 6);
}

#[test]
fn a_snapshot_without_anything_has_a_page_too() {
    let page = page(&Figures::new(&snapshot(), &crate::report::Tables::default(), Vec::new()));
    assert!(page.contains("This snapshot holds no search."), "{page}");
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}
