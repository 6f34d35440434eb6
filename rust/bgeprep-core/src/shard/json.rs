//! JSON for people and for diffs: indented, but a record batch stays on one line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// From this depth on (the elements of a part's `blocks`) nothing is broken into lines.
const FLAT_FROM: usize = 7;

pub(super) fn pretty<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Indented::default()))?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

#[derive(Default)]
struct Indented {
    depth: usize,
    has_value: bool,
}

impl Indented {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        let flat = self.depth >= FLAT_FROM;
        self.depth -= 1;
        if self.has_value && !flat {
            self.line(out)?;
        }
        self.has_value = true;
        out.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.depth < FLAT_FROM {
            return self.line(out);
        }
        if first { Ok(()) } else { out.write_all(b" ") }
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Indented {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}

macro_rules! hex {
    ($module:ident, $number:ty, $digits:literal) => {
        /// A checksum as lower-case hexadecimal digits: JSON numbers end at 2^53 in many readers.
        pub(super) mod $module {
            use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

            #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` passes references")]
            pub(in super::super) fn serialize<S: Serializer>(value: &$number, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(&format_args!(concat!("{:0", $digits, "x}"), value))
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<$number, D::Error> {
                let text = String::deserialize(input)?;
                let digits = text.len() == $digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                digits
                    .then(|| <$number>::from_str_radix(&text, 16).ok())
                    .flatten()
                    .ok_or_else(|| D::Error::custom(format!("expected {} hexadecimal digits, found {text:?}", $digits)))
            }
        }
    };
}

hex!(hex64, u64, 16);
hex!(hex128, u128, 32);
