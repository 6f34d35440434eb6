//! Which column plays which role: the one table of usual names, and the user's own mapping.
//!
//! | role | first choice | second choice |
//! |---|---|---|
//! | query | `query` `anchor` | `question` `question1` `title` `title_body` `sentence1` `sent0` `text1` `premise` |
//! | positive | `pos` `positive` `positives` | `answer` `upvoted_answer` `best_answer` `response` `body` `abstract` `passage` `context` `document` `question2` `sentence2` `sent1` `text2` `hypothesis` |
//! | negative | `neg` `negative` `negatives` `hard_neg` `hard_negs` `hard_negative` `hard_negatives`, each also with a number (`negative_1`, `neg2`) | |
//! | label | `label` `gold_label` `is_duplicate` | |
//! | score | `score` `similarity_score` | |
//! | id | `id` `_id` | |
//! | others | `prompt` `type` `pos_scores` `neg_scores` `set` | |
//! | document | `text`, with or without `title`, in a record without a positive | |
//! | origin | `origin_file` and `origin_line` (see [`Origin`](super::Origin)) | |
//!
//! A column of the first choice beats those of the second, which are then ignored and counted.
//! Two columns of the same choice for the query or the positive (`question` and `title`, or
//! `answer` and `body`) are an error that asks for `columns.query` or `columns.pos`: a guess
//! would train on the wrong text without a word. All negative columns are joined, in the order in
//! which the record has them. Names are compared without regard to ASCII case. A null value counts
//! as an absent column, but for labels.
//!
//! A role that the user maps takes only the user's columns, compared exactly; of several, the
//! first present is taken, while those for the positive and the negative are joined. Files without
//! a header have columns `1`, `2`, `3` … A user who maps the text or the title says that all records
//! are documents, whatever other columns they have.

/// The user's own columns, by role; `None` leaves the role to the usual names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnMapping {
    /// The query.
    pub query: Option<Vec<String>>,
    /// The positives.
    pub pos: Option<Vec<String>>,
    /// The negatives.
    pub neg: Option<Vec<String>>,
    /// The label (see [`super::labels`]).
    pub label: Option<Vec<String>>,
    /// The grade of the pair.
    pub score: Option<Vec<String>>,
    /// The record's id.
    pub id: Option<Vec<String>>,
    /// The instruction of the record's query.
    pub prompt: Option<Vec<String>>,
    /// FlagEmbedding's row type, which maps to the task.
    pub kind: Option<Vec<String>>,
    /// Teacher scores of the positives.
    pub pos_scores: Option<Vec<String>>,
    /// Teacher scores of the negatives.
    pub neg_scores: Option<Vec<String>>,
    /// The text of a document.
    pub text: Option<Vec<String>>,
    /// The title of a document.
    pub title: Option<Vec<String>>,
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Role {
    Query,
    Pos,
    Neg,
    Label,
    Score,
    Id,
    Prompt,
    Kind,
    PosScores,
    NegScores,
    /// `{"set": [a, b, …]}`.
    Set,
    /// The text of a document.
    Text,
    /// The title of a document, where the user names it; else it is a `title` without a positive.
    Title,
    /// The raw file that the record is from.
    OriginFile,
    /// The line in it.
    OriginLine,
    /// Lists of objects that only a recipe can walk (SQuAD).
    Nested,
    /// Columns that only shard sets have.
    ShardSet,
}

/// A role and how strongly the name stands for it; 0 is strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) role: Role,
    pub(super) rank: u16,
}

/// The table of the module documentation. Names of one line have one rank.
const USUAL: &[(Role, u16, &[&str])] = &[
    (Role::Query, 0, &["query", "anchor"]),
    (Role::Query, 1, &["question", "question1", "title", "title_body", "sentence1", "sent0", "text1", "premise"]),
    (Role::Pos, 0, &["pos", "positive", "positives"]),
    (
        Role::Pos,
        1,
        &[
            "answer",
            "upvoted_answer",
            "best_answer",
            "response",
            "body",
            "abstract",
            "passage",
            "context",
            "document",
            "question2",
            "sentence2",
            "sent1",
            "text2",
            "hypothesis",
        ],
    ),
    (Role::Label, 0, &["label"]),
    (Role::Label, 1, &["gold_label", "is_duplicate"]),
    (Role::Score, 0, &["score"]),
    (Role::Score, 1, &["similarity_score"]),
    (Role::Id, 0, &["id"]),
    (Role::Id, 1, &["_id"]),
    (Role::Prompt, 0, &["prompt"]),
    (Role::Kind, 0, &["type"]),
    (Role::PosScores, 0, &["pos_scores"]),
    (Role::NegScores, 0, &["neg_scores"]),
    (Role::Set, 0, &["set"]),
    (Role::Text, 0, &["text"]),
    (Role::Nested, 0, &["data", "paragraphs", "qas"]),
    (Role::OriginFile, 0, &["origin_file"]),
    (Role::OriginLine, 0, &["origin_line"]),
    (Role::ShardSet, 0, &["query_key", "pos_keys"]),
];

/// Names of negative columns, alone or followed by a number.
const NEGATIVES: &[&str] =
    &["neg", "negative", "negatives", "hard_neg", "hard_negs", "hard_negative", "hard_negatives"];

impl ColumnMapping {
    /// The user's columns for a role, if the user gave any.
    pub(super) fn of(&self, role: Role) -> Option<&[String]> {
        let names = match role {
            Role::Query => &self.query,
            Role::Pos => &self.pos,
            Role::Neg => &self.neg,
            Role::Label => &self.label,
            Role::Score => &self.score,
            Role::Id => &self.id,
            Role::Prompt => &self.prompt,
            Role::Kind => &self.kind,
            Role::PosScores => &self.pos_scores,
            Role::NegScores => &self.neg_scores,
            Role::Text => &self.text,
            Role::Title => &self.title,
            Role::Set | Role::OriginFile | Role::OriginLine | Role::Nested | Role::ShardSet => return None,
        };
        names.as_deref()
    }

    /// What a column of that name may serve as; `None` for a column that nothing asks for.
    pub(super) fn claim(&self, name: &str) -> Option<Claim> {
        for role in MAPPABLE {
            if let Some(rank) = self.of(role).and_then(|names| names.iter().position(|own| own == name)) {
                return Some(Claim { role, rank: rank as u16 });
            }
        }
        let claim = usual(name)?;
        if self.of(claim.role).is_some() { None } else { Some(claim) }
    }

    /// Whether the user says that the records are documents.
    pub(super) fn is_of_texts(&self) -> bool {
        self.text.is_some() || self.title.is_some()
    }

    /// The first mapped role that documents do not have, where the records are said to be documents.
    pub fn strange_to_texts(&self) -> Option<&'static str> {
        let of_texts = |role: &Role| matches!(role, Role::Text | Role::Title);
        let strange = MAPPABLE.into_iter().find(|role| !of_texts(role) && self.of(*role).is_some());
        if self.is_of_texts() { strange.map(config_key) } else { None }
    }

    /// Every column that the user names, with the config key it stands under.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        MAPPABLE.into_iter().flat_map(|role| {
            self.of(role).unwrap_or_default().iter().map(move |name| (config_key(role), name.as_str()))
        })
    }
}

/// The roles that a config can map.
const MAPPABLE: [Role; 12] = [
    Role::Query,
    Role::Pos,
    Role::Neg,
    Role::Label,
    Role::Score,
    Role::Id,
    Role::Prompt,
    Role::Kind,
    Role::PosScores,
    Role::NegScores,
    Role::Text,
    Role::Title,
];

/// The config key of a role.
pub(super) fn config_key(role: Role) -> &'static str {
    match role {
        Role::Query => "columns.query",
        Role::Pos => "columns.pos",
        Role::Neg => "columns.neg",
        Role::Label => "columns.label",
        Role::Score => "columns.score",
        Role::Id => "columns.id",
        Role::Prompt => "columns.prompt",
        Role::Kind => "columns.type",
        Role::PosScores => "columns.pos_scores",
        Role::NegScores => "columns.neg_scores",
        Role::Text => "columns.text",
        Role::Title => "columns.title",
        Role::Set | Role::OriginFile | Role::OriginLine | Role::Nested | Role::ShardSet => "columns",
    }
}

fn usual(name: &str) -> Option<Claim> {
    let name = name.trim().to_ascii_lowercase();
    for (role, rank, names) in USUAL {
        if names.contains(&name.as_str()) {
            return Some(Claim { role: *role, rank: *rank });
        }
    }
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let stem = if stem.len() < name.len() { stem.strip_suffix('_').unwrap_or(stem) } else { stem };
    NEGATIVES.contains(&stem).then_some(Claim { role: Role::Neg, rank: 0 })
}

#[cfg(test)]
mod tests {
    use super::{Claim, ColumnMapping, Role};

    #[test]
    fn usual_names() {
        let columns = ColumnMapping::default();
        assert_eq!(columns.claim("query"), Some(Claim { role: Role::Query, rank: 0 }));
        assert_eq!(columns.claim("Question"), Some(Claim { role: Role::Query, rank: 1 }));
        for name in ["negative", "negative_1", "negative12", "hard_neg", "neg_3"] {
            assert_eq!(columns.claim(name), Some(Claim { role: Role::Neg, rank: 0 }), "{name}");
        }
        for name in ["label0", "negative_", "prem_id", "query1", "1"] {
            assert_eq!(columns.claim(name), None, "{name}");
        }
    }

    #[test]
    fn a_mapped_role_takes_only_its_own_columns() {
        let columns = ColumnMapping { query: Some(vec!["title".into(), "q".into()]), ..ColumnMapping::default() };
        assert_eq!(columns.claim("q"), Some(Claim { role: Role::Query, rank: 1 }));
        assert_eq!(columns.claim("query"), None);
        assert_eq!(columns.claim("Title"), None);
        assert_eq!(columns.claim("answer"), Some(Claim { role: Role::Pos, rank: 1 }));
        assert_eq!(columns.named().collect::<Vec<_>>(), [("columns.query", "title"), ("columns.query", "q")]);
    }
}
