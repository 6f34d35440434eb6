use super::{Columns, Row, Shape};
use crate::read::columns::ColumnMapping;
use crate::read::field::Field;
use crate::read::testing::layout;
use crate::report::Reason;

fn resolve(columns: &mut Columns<'_>, names: &[&str]) -> crate::Result<Shape> {
    let row: Row<'_> = names
        .iter()
        .map(|name| (columns.number(name, None).expect("few columns"), Field::Text((*name).into())))
        .collect();
    columns.resolve(&row, Some(3))
}

#[test]
fn finds_roles_and_ignored_columns() {
    let layout = layout(ColumnMapping::default());
    let mut columns = Columns::new(&layout);
    let shape = resolve(&mut columns, &["level", "sentence1", "sentence2", "label", "negative_1", "negative_2"]);
    let Ok(Shape::Pair { roles, ignored }) = shape else { panic!("{shape:?}") };
    assert_eq!((roles.query, roles.pos, roles.neg, roles.label), (1, vec![2], vec![4, 5], Some(3)));
    assert_eq!(ignored, [0]);
}

#[test]
fn first_choice_beats_second() {
    let layout = layout(ColumnMapping::default());
    let shape = resolve(&mut Columns::new(&layout), &["title", "query", "answer", "positive"]);
    let Ok(Shape::Pair { roles, ignored }) = shape else { panic!("{shape:?}") };
    assert_eq!((roles.query, roles.pos, ignored), (1, vec![3], vec![0, 2]));
}

#[test]
fn two_of_one_choice_are_an_error_that_names_the_config() {
    let layout = layout(ColumnMapping::default());
    let error = resolve(&mut Columns::new(&layout), &["question", "title", "body", "answer"]).expect_err("ambiguous");
    assert_eq!(
        error.to_string(),
        "test:3: several columns could be the query: question, title; hint: name one, as columns.query = [\"question\"]"
    );
}

#[test]
fn mapped_positives_are_joined() {
    let mapping = ColumnMapping { pos: Some(vec!["b".into(), "a".into()]), ..ColumnMapping::default() };
    let layout = layout(mapping);
    let shape = resolve(&mut Columns::new(&layout), &["query", "a", "b", "pos"]);
    let Ok(Shape::Pair { roles, ignored }) = shape else { panic!("{shape:?}") };
    assert_eq!((roles.pos, ignored), (vec![2, 1], vec![3]));
}

#[test]
fn other_kinds_are_named() {
    let layout = layout(ColumnMapping::default());
    for (names, found) in [
        (&["text"][..], (0, None)),
        (&["_id", "title", "text"], (2, Some(1))),
        (&["title", "text", "label"], (1, Some(0))),
    ] {
        let shape = resolve(&mut Columns::new(&layout), names);
        let Ok(Shape::Text { at, title, .. }) = shape else { panic!("{shape:?}") };
        assert_eq!((at, title), found);
    }
    let part = resolve(&mut Columns::new(&layout), &["query", "pos", "query_key", "pos_keys", "origin_line"]);
    assert!(part.expect_err("no pairs").to_string().contains("shard set"));
    let shape = resolve(&mut Columns::new(&layout), &["query", "foo"]).expect("a bad row");
    let detail = "no column for the positive; columns: query, foo".to_owned();
    assert_eq!(shape, Shape::Bad { reason: Reason::UnknownShape, detail });
}

#[test]
fn keys_without_end_are_counted_only() {
    let layout = layout(ColumnMapping::default());
    let mut columns = Columns::new(&layout);
    for key in 0..2000 {
        columns.number(&key.to_string(), None);
    }
    assert_eq!(columns.seen.len(), super::MAX_COLUMNS);
    let mut tally = super::Unmapped::default();
    columns.report(&mut tally);
    assert_eq!(tally.iter().count(), 2000 - super::MAX_COLUMNS);
}

fn documents(text: Option<&str>, title: Option<&str>) -> ColumnMapping {
    let one = |name: Option<&str>| name.map(|name| vec![name.to_owned()]);
    ColumnMapping { text: one(text), title: one(title), ..ColumnMapping::default() }
}

#[test]
fn mapped_texts_make_documents_of_any_columns() {
    type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [&'a str], (usize, Option<usize>), &'a [u16]);
    let cases: [Case<'_>; 5] = [
        (Some("content"), Some("headline"), &["headline", "content"], (1, Some(0)), &[]),
        (Some("body"), None, &["title", "body", "query", "pos"], (1, Some(0)), &[2, 3]),
        (Some("title"), None, &["query", "title", "text"], (1, None), &[0, 2]),
        (None, Some("query"), &["query", "title", "text", "label"], (2, Some(0)), &[1, 3]),
        (Some("a"), Some("b"), &["a", "title", "origin_file", "origin_line"], (0, None), &[1]),
    ];
    for (text, title, names, found, left) in cases {
        let layout = layout(documents(text, title));
        let shape = resolve(&mut Columns::new(&layout), names);
        let Ok(Shape::Text { at, title, ignored }) = shape else { panic!("{shape:?}") };
        assert_eq!(((at, title), ignored.as_slice()), (found, left), "{names:?}");
    }
    let mapping = documents(Some("content"), None);
    assert_eq!(mapping.strange_to_texts(), None);
    let mixed = ColumnMapping { neg: Some(vec!["n".into()]), ..mapping };
    assert_eq!(mixed.strange_to_texts(), Some("columns.neg"));
    assert_eq!(ColumnMapping { text: None, ..mixed }.strange_to_texts(), None);
}

#[test]
fn a_document_without_its_text_is_told_of_the_text() {
    for (mapping, names, detail) in [
        (documents(Some("content"), None), &["title", "text"][..], "no column for the text; columns: title, text"),
        (ColumnMapping::default(), &["title"], "no column for the positive; columns: title"),
    ] {
        let layout = layout(mapping);
        let shape = resolve(&mut Columns::new(&layout), names).expect("a bad row");
        assert_eq!(shape, Shape::Bad { reason: Reason::UnknownShape, detail: detail.to_owned() });
    }
    for (mapping, name) in [(documents(Some("content"), None), "content"), (ColumnMapping::default(), "text")] {
        let layout = layout(mapping);
        let mut columns = Columns::new(&layout);
        let numbers = ["title", name].map(|name| columns.number(name, None).expect("few columns"));
        let row = vec![(numbers[0], Field::Text("a title".into())), (numbers[1], Field::Null)];
        let shape = columns.resolve(&row, Some(3)).expect("a bad row");
        assert_eq!(shape, Shape::Bad { reason: Reason::EmptyField, detail: format!("`{name}` is null") });
    }
}

#[test]
fn origins_take_both_columns_and_are_used_then() {
    let layout = layout(ColumnMapping::default());
    for (names, found, left) in [
        (&["query", "pos", "origin_file", "Origin_Line"][..], Some((2, 3)), &[][..]),
        (&["origin_line", "text", "origin_file"], Some((2, 0)), &[]),
        (&["query", "pos", "origin_line"], None, &[2]),
        (&["set", "origin_file"], None, &[1]),
    ] {
        let mut columns = Columns::new(&layout);
        let shape = resolve(&mut columns, names);
        let Ok(Shape::Pair { ignored, .. } | Shape::Text { ignored, .. } | Shape::Set { ignored, .. }) = shape else {
            panic!("{shape:?}")
        };
        assert_eq!(ignored, left, "{names:?}");
        let row: Row<'_> = (0..names.len()).map(|number| (number as u16, Field::Text("x".into()))).collect();
        assert_eq!(crate::read::origin::find(&columns, &row), found, "{names:?}");
    }
}
