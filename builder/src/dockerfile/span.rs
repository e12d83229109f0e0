//! Places in a source file.

/// A range of bytes of a Dockerfile, with the place of its first byte for messages.
///
/// `start..end` index the source exactly as it was given to the parser (a byte order mark included), so
/// `source[span.range()]` is always valid. A span of a word that continues over several lines includes the line
/// continuations between its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte; equal to `start` for an empty span.
    pub end: usize,
    /// Line of the first byte, from 1.
    pub line: usize,
    /// Column of the first byte in its line, from 1, counted in bytes.
    pub column: usize,
}

impl Span {
    /// The empty span at the beginning of the file, for problems of the file as a whole.
    pub const FILE: Self = Self {
        start: 0,
        end: 0,
        line: 1,
        column: 1,
    };

    /// The smallest span that covers `self` and `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        let first = if other.start < self.start { other } else { self };
        Self {
            end: self.end.max(other.end),
            ..first
        }
    }

    /// The byte range, for indexing the source.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }

    /// Number of bytes covered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the span covers no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The part of this span from `offset` bytes after its start; the span itself where it is shorter than that or
    /// where the offset would leave its first line's text.
    ///
    /// Meant for words whose text equals their source, to point at the fault inside the word.
    #[must_use]
    pub fn tail(self, offset: usize) -> Self {
        if offset >= self.len() {
            return self;
        }
        Self {
            start: self.start + offset,
            column: self.column + offset,
            ..self
        }
    }
}
