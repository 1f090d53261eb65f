//! Reads and writes msgpack. The bytes to read are untrusted: every length is checked against the
//! remaining bytes before memory is allocated.

use rmp::decode::{self, Bytes, RmpRead};

/// Why some bytes could not be read.
pub type Reason = String;

/// A cursor over msgpack.
pub struct Reader<'a>(Bytes<'a>);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Bytes::new(bytes))
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Reason> {
        let rest = self.0.remaining_slice();
        let length = length as usize;
        let bytes = rest.get(..length).ok_or_else(|| format!("{length} bytes announced, {} left", rest.len()))?;
        self.0 = Bytes::new(&rest[length..]);
        Ok(bytes)
    }

    /// Length of an array. It cannot have more items than there are bytes left.
    pub fn array(&mut self) -> Result<u32, Reason> {
        let length = decode::read_array_len(&mut self.0).map_err(|_| "an array was expected".to_owned())?;
        self.bounded(length)
    }

    fn bounded(&self, length: u32) -> Result<u32, Reason> {
        let left = self.0.remaining_slice().len();
        if length as usize > left { Err(format!("{length} items announced, {left} bytes left")) } else { Ok(length) }
    }

    pub fn uint(&mut self) -> Result<u64, Reason> {
        decode::read_int(&mut self.0).map_err(|_| "an integer was expected".to_owned())
    }

    pub fn boolean(&mut self) -> Result<bool, Reason> {
        decode::read_bool(&mut self.0).map_err(|_| "a boolean was expected".to_owned())
    }

    pub fn text(&mut self) -> Result<&'a str, Reason> {
        let length = decode::read_str_len(&mut self.0).map_err(|_| "text was expected".to_owned())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| "text was expected".to_owned())
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let length = decode::read_bin_len(&mut self.0).map_err(|_| "bytes were expected".to_owned())?;
        self.take(length)
    }

    fn nil(&mut self) -> bool {
        let nil = self.0.remaining_slice().first() == Some(&0xc0);
        if nil {
            let _ = self.0.read_u8();
        }
        nil
    }

    /// Whether the next value is text.
    pub fn at_text(&self) -> bool {
        matches!(self.0.remaining_slice().first(), Some(0xa0..=0xbf | 0xd9..=0xdb))
    }

    pub fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Reason>) -> Result<Option<T>, Reason> {
        if self.nil() { Ok(None) } else { read(self).map(Some) }
    }

    pub fn text_map(&mut self) -> Result<Vec<(String, String)>, Reason> {
        let length = decode::read_map_len(&mut self.0).map_err(|_| "a map was expected".to_owned())?;
        let length = self.bounded(length)?;
        (0..length).map(|_| Ok((self.text()?.to_owned(), self.text()?.to_owned()))).collect()
    }
}

/// Writes msgpack into memory, which cannot fail.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    pub fn array(&mut self, length: u32) -> &mut Self {
        let _ = rmp::encode::write_array_len(&mut self.0, length);
        self
    }

    pub fn uint(&mut self, value: u64) -> &mut Self {
        let _ = rmp::encode::write_uint(&mut self.0, value);
        self
    }

    pub fn boolean(&mut self, value: bool) -> &mut Self {
        let _ = rmp::encode::write_bool(&mut self.0, value);
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        let _ = rmp::encode::write_str(&mut self.0, value);
        self
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let _ = rmp::encode::write_bin(&mut self.0, value);
        self
    }

    pub fn optional_uint(&mut self, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.uint(value),
            None => {
                let _ = rmp::encode::write_nil(&mut self.0);
                self
            }
        }
    }

    pub fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => {
                let _ = rmp::encode::write_nil(&mut self.0);
                self
            }
        }
    }

    pub fn text_map(&mut self, pairs: &[(String, String)]) -> &mut Self {
        let _ = rmp::encode::write_map_len(&mut self.0, u32::try_from(pairs.len()).unwrap_or(u32::MAX));
        for (key, value) in pairs {
            self.text(key).text(value);
        }
        self
    }
}
