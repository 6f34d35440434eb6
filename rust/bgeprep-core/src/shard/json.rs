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

/// A checksum as lower-case hexadecimal digits, two a byte: JSON numbers end at 2^53 in many readers.
pub(super) mod hex {
    use std::fmt::LowerHex;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::shard) fn serialize<N: LowerHex, S: Serializer>(number: &N, out: S) -> Result<S::Ok, S::Error> {
        let digits = 2 * size_of::<N>();
        out.collect_str(&format_args!("{number:0digits$x}"))
    }

    pub(in crate::shard) fn deserialize<'de, N: TryFrom<u128>, D: Deserializer<'de>>(input: D) -> Result<N, D::Error> {
        let text = String::deserialize(input)?;
        let digits = 2 * size_of::<N>();
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if plain { u128::from_str_radix(&text, 16).ok() } else { None };
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| D::Error::custom(format!("expected {digits} hexadecimal digits, found {text:?}")))
    }
}
