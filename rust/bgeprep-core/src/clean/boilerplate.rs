//! Phrases that mark a text as no content: cookie notices, pages that ask for JavaScript, error pages, filler.
//!
//! Compared on the normalised text, so that case, width and white space do not matter. A text that holds a phrase
//! anywhere goes: so a phrase has to be one that hardly stands in content, rather a clause than a word.

use aho_corasick::{AhoCorasick, MatchKind};

use super::text::normalise;
use crate::{Error, Result};

/// The word that stands for [`BUILT_IN`] in a list of phrases.
pub const BUILT_IN_NAME: &str = "built-in";

/// The phrases that `built-in` stands for.
pub const BUILT_IN: [&str; 34] = [
    // Filler text.
    "lorem ipsum dolor sit amet",
    // Pages that were fetched without running their scripts, and bot checks.
    "please enable javascript",
    "javascript is disabled in your browser",
    "javascript is not enabled in your browser",
    "you need to enable javascript",
    "this site requires javascript",
    "enable javascript and cookies to continue",
    "please enable cookies",
    "checking your browser before accessing",
    "verify you are human by completing",
    "please complete the captcha",
    "your browser does not support the video tag",
    "请启用javascript",
    "请开启javascript",
    "您的浏览器不支持javascript",
    // Cookie notices.
    "we use cookies to",
    "this site uses cookies",
    "this website uses cookies",
    "by continuing to use this site you agree",
    "by continuing to browse this site you agree",
    "accept all cookies",
    "wir verwenden cookies",
    "diese website verwendet cookies",
    "nous utilisons des cookies",
    "utilizamos cookies",
    "本网站使用cookie",
    // Error pages.
    "404 not found",
    "the page you requested could not be found",
    "the page you are looking for does not exist",
    "you don't have permission to access this resource",
    "您访问的页面不存在",
    "抱歉,您访问的页面",
    // Notices that stand alone where the content was.
    "this comment has been removed by the author",
    "this post has been removed by a moderator",
];

/// Most phrases of a list, and most bytes of one.
const MOST: (usize, usize) = (10_000, 1_000);

/// A list of phrases, ready to be looked for.
#[derive(Debug)]
pub struct Boilerplate {
    automaton: AhoCorasick,
    phrases: Vec<String>,
}

impl Boilerplate {
    /// The rule for these phrases, of which [`BUILT_IN_NAME`] stands for the built-in ones. `None` for no phrase.
    ///
    /// # Errors
    /// `Config`, with `key` as the setting's name: a phrase of fewer than four characters, or too many of them.
    pub fn new(phrases: &[String], key: &str) -> Result<Option<Self>> {
        let mut normal = Vec::new();
        for phrase in phrases {
            if phrase == BUILT_IN_NAME {
                normal.extend(BUILT_IN.map(normal_form));
                continue;
            }
            let form = normal_form(phrase);
            if form.chars().count() < 4 || form.len() > MOST.1 {
                let message = format!("expected phrases of 4 characters to {} bytes, found {phrase:?}", MOST.1);
                return Err(Error::config(key, message));
            }
            normal.push(form);
        }
        if normal.is_empty() {
            return Ok(None);
        }
        if normal.len() > MOST.0 {
            let message = format!("expected at most {} phrases, found {}", MOST.0, normal.len());
            return Err(Error::config(key, message));
        }
        let builder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&normal);
        let automaton = builder.map_err(|error| Error::config(key, error.to_string()))?;
        Ok(Some(Self { automaton, phrases: normal }))
    }

    /// The first phrase that stands in the text, whose normalised form `normal` is.
    pub fn find(&self, normal: &str) -> Option<&str> {
        self.automaton.find(normal).map(|found| self.phrases[found.pattern()].as_str())
    }
}

fn normal_form(phrase: &str) -> String {
    normalise(phrase, &mut String::new()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(phrases: &[&str]) -> Result<Option<Boilerplate>> {
        let phrases: Vec<String> = phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
        Boilerplate::new(&phrases, "clean.boilerplate")
    }

    fn found<'b>(list: &'b Boilerplate, text: &str) -> Option<&'b str> {
        list.find(&normal_form(text))
    }

    #[test]
    fn built_in_phrases_are_found_in_any_form() {
        let list = list(&["built-in"]).expect("a list").expect("phrases");
        assert_eq!(found(&list, "WE USE\tcookies  to improve"), Some("we use cookies to"));
        assert_eq!(found(&list, "请启用ＪavaＳcript后继续访问"), Some("请启用javascript"));
        assert_eq!(found(&list, "抱歉，您访问的页面走丢了"), Some("抱歉,您访问的页面"));
        for content in
            ["", "How do I bake cookies?", "What is JavaScript used for?", "HTTP has a status 404, not found."]
        {
            assert_eq!(found(&list, content), None, "{content}");
        }
        for phrase in BUILT_IN {
            assert_eq!(normal_form(phrase), phrase, "stands as it is compared");
            assert!(found(&list, &format!("Home | {phrase} | Menu")).is_some());
        }
    }

    #[test]
    fn own_phrases_stand_alone_or_beside_the_built_in_ones() {
        let own = list(&["Subscribe to OUR newsletter"]).expect("a list").expect("phrases");
        assert!(found(&own, "subscribe to our newsletter today").is_some());
        assert_eq!(found(&own, "we use cookies to improve"), None);
        let both = list(&["built-in", "subscribe to our newsletter"]).expect("a list").expect("phrases");
        assert!(found(&both, "we use cookies to improve").is_some());
        assert!(found(&both, "Subscribe to our newsletter").is_some());
        assert!(list(&[]).expect("a list").is_none());
    }

    #[test]
    fn a_phrase_that_would_match_everything_is_refused() {
        for phrase in ["", "  ", "the", "\u{200}"] {
            let error = list(&[phrase]).expect_err("too short");
            assert!(error.to_string().starts_with("clean.boilerplate: expected phrases"), "{error}");
        }
    }
}
