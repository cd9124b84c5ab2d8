//! The records of a session's file.
//!
//! After the file's name and version come records: what kind (8 bytes), length (8 bytes, little-endian), SHA-256 of these
//! two and the content, content. A *part* is a page of the cache or a row of logits, written once however many saves need
//! it. A *save* says what a session is and where its parts are. Records are only added, never changed: a save
//! that is cut off leaves the one before as it was.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Where the records begin.
pub const START: u64 = (NAME.len() + VERSION.len()) as u64;
pub const NAME: &[u8; 16] = b"fourfold session";
pub const VERSION: [u8; 4] = 2u32.to_le_bytes();
const HEAD: usize = 8 + 8 + 32;
/// A conversation of 131,072 tokens is about a megabyte of text; this is room for any amount of
/// tool output.
const MOST_SAVE: u64 = 1 << 30;

type Checksum = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Part,
    Save,
}

impl Kind {
    fn name(self) -> &'static [u8; 8] {
        match self {
            Self::Part => b"-part- \n",
            Self::Save => b"-save- \n",
        }
    }
}

/// What stands before a record's content.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    kind: Kind,
    length: u64,
    checksum: Checksum,
}

impl Head {
    fn of(kind: Kind, content: &[u8]) -> Self {
        let length = content.len() as u64;
        let mut hash = Sha256::new();
        hash.update(kind.name());
        hash.update(length.to_le_bytes());
        hash.update(content);
        Self {
            kind,
            length,
            checksum: hash.finalize().into(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.kind.name())?;
        out.write_all(&self.length.to_le_bytes())?;
        out.write_all(&self.checksum)
    }

    /// None if no record begins here.
    fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let name = array(input)?;
        let length = u64::from_le_bytes(array(input)?);
        let checksum = array(input)?;
        let kind = [Kind::Part, Kind::Save]
            .into_iter()
            .find(|kind| *kind.name() == name);
        Ok(kind.map(|kind| Self {
            kind,
            length,
            checksum,
        }))
    }

    /// Bytes of the whole record.
    fn record(&self) -> u64 {
        self.length.saturating_add(HEAD as u64)
    }
}

/// What is known of a file that can be added to.
#[derive(Debug)]
pub struct Extent {
    end: u64,
    /// Bytes that this save needs.
    live: u64,
    /// Where its parts are.
    parts: HashMap<Checksum, u64>,
}

impl Extent {
    /// Where its newest save ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether writing the file anew would save more than half of it. What a turn leaves behind for the 20b is about 10 MB.
    pub fn is_mostly_waste(&self) -> bool {
        self.end > 2 * self.live + (16 << 20)
    }
}

/// Adds a save to a file.
pub struct Writer<'a> {
    out: BufWriter<&'a File>,
    end: u64,
    live: u64,
    /// Of this save.
    parts: HashMap<Checksum, u64>,
    /// Of the one before.
    old: Option<&'a Extent>,
}

impl<'a> Writer<'a> {
    /// Begins a file.
    pub fn new(file: &'a File) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(NAME)?;
        out.write_all(&VERSION)?;
        Ok(Self {
            out,
            end: START,
            live: START,
            parts: HashMap::new(),
            old: None,
        })
    }

    /// Goes on behind the newest save. What stands there was cut off.
    pub fn behind(file: &'a File, old: &'a Extent) -> io::Result<Self> {
        file.set_len(old.end)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.seek(SeekFrom::Start(old.end))?;
        Ok(Self {
            out,
            end: old.end,
            live: START,
            parts: HashMap::new(),
            old: Some(old),
        })
    }

    /// Writes a part that is not there yet; gives back where it is.
    pub fn part(&mut self, content: &[u8]) -> io::Result<u64> {
        let head = Head::of(Kind::Part, content);
        if let Some(&place) = self.parts.get(&head.checksum) {
            return Ok(place);
        }
        let old = self.old.and_then(|old| old.parts.get(&head.checksum));
        let place = match old {
            Some(&place) => {
                self.live += head.record();
                place
            }
            None => self.record(&head, content)?,
        };
        self.parts.insert(head.checksum, place);
        Ok(place)
    }

    /// Writes what the parts belong to, when they are on the disk: a power cut leaves no save without them.
    pub fn save(mut self, content: &[u8]) -> io::Result<Extent> {
        self.settle()?;
        self.record(&Head::of(Kind::Save, content), content)?;
        self.settle()?;
        Ok(Extent {
            end: self.end,
            live: self.live,
            parts: self.parts,
        })
    }

    fn record(&mut self, head: &Head, content: &[u8]) -> io::Result<u64> {
        head.write(&mut self.out)?;
        self.out.write_all(content)?;
        let place = self.end;
        self.end += head.record();
        self.live += head.record();
        Ok(place)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_data()
    }
}

/// Reads the newest whole save of a file, and its parts.
pub struct Reader {
    file: BufReader<File>,
    /// What the save says.
    pub save: Vec<u8>,
    /// Whether something stands behind it that is no save: it was cut off, or changed.
    pub is_older: bool,
    extent: Extent,
}

impl Reader {
    /// None if the file holds no whole save.
    pub fn new(file: File, length: u64) -> io::Result<Option<Self>> {
        let mut file = BufReader::new(file);
        for (place, head) in saves(&mut file, length)?.into_iter().rev() {
            file.seek(SeekFrom::Start(place + HEAD as u64))?;
            if let Some(save) = content(&mut file, &head)? {
                let end = place + head.record();
                return Ok(Some(Self {
                    file,
                    save,
                    is_older: end != length,
                    extent: Extent {
                        end,
                        live: START + head.record(),
                        parts: HashMap::new(),
                    },
                }));
            }
        }
        Ok(None)
    }

    /// The part at a place that [`Writer::part`] gave.
    pub fn part(&mut self, place: u64, into: &mut [u8]) -> io::Result<()> {
        let wrong = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum of a part does not match",
            )
        };
        let left = self.extent.end.saturating_sub(place);
        if place < START || left < HEAD as u64 {
            return Err(wrong());
        }
        self.file.seek(SeekFrom::Start(place))?;
        let head = Head::read(&mut self.file)?;
        let head = head
            .filter(|head| head.length == into.len() as u64 && head.record() <= left)
            .ok_or_else(wrong)?;
        self.file.read_exact(into)?;
        if Head::of(Kind::Part, into) != head {
            return Err(wrong());
        }
        if self.extent.parts.insert(head.checksum, place).is_none() {
            self.extent.live += head.record();
        }
        Ok(())
    }

    /// The file as far as it was read, for [`Writer::behind`].
    pub fn into_extent(self) -> Extent {
        self.extent
    }
}

/// Where the saves of a file are, whole or not.
fn saves(file: &mut BufReader<File>, length: u64) -> io::Result<Vec<(u64, Head)>> {
    let mut saves = Vec::new();
    let mut place = START;
    file.seek(SeekFrom::Start(place))?;
    while length - place >= HEAD as u64 {
        let Some(head) = Head::read(file)?.filter(|head| head.record() <= length - place) else {
            break;
        };
        place += head.record();
        file.seek_relative(head.length as i64)?;
        if head.kind == Kind::Save {
            saves.push((place - head.record(), head));
        }
    }
    Ok(saves)
}

/// What follows a head, if it is what the head says.
fn content(input: &mut impl Read, head: &Head) -> io::Result<Option<Vec<u8>>> {
    if head.length > MOST_SAVE {
        return Ok(None);
    }
    let mut content = Vec::new();
    input.take(head.length).read_to_end(&mut content)?;
    Ok((Head::of(head.kind, &content) == *head).then_some(content))
}

pub fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
