//! What a snapshot says, for people: the text at the end of a run, and one page of HTML.
//!
//! ```text
//!   snapshot ─► Tables ─► outcome ─┬─► text            (`metad2a run`)
//!              (the only I/O)      └─► Figures ─► html (`metad2a report`)
//! ```
//!
//! Everything behind [`Tables`] is pure. Text and page take the searches' figures from the same [`outcome`], so they
//! never disagree. **Invariant:** the page names nothing outside itself: no script, no picture, no style, no link.

mod curves;
pub(crate) mod figures;
pub(crate) mod html;
mod outcome;
mod provenance;
mod statistics;
mod tables;
mod target;
mod text;

pub(crate) use outcome::collect;
pub(crate) use tables::Tables;
pub(crate) use text::table;
