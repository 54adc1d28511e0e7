//! Figures as one page of HTML that needs nothing else: no script, no other file, no network.

mod cell;
mod database;
mod models;
mod page;
mod provenance;
mod svg;
mod table;
mod target;

pub(crate) use page::page;
