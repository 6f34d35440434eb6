//! What a document's blocks are ranges of: its title, a line break, its text.

use crate::shard::Row;

/// The document of a row of a text set, built in `scratch` where it has a title.
pub(super) fn document<'a>(row: &Row<'a>, scratch: &'a mut String) -> &'a str {
    let (title, text) = (row.query(), row.pos(0));
    if title.is_empty() {
        return text;
    }
    scratch.clear();
    scratch.push_str(title);
    scratch.push('\n');
    scratch.push_str(text);
    scratch
}
