use super::*;
use std::fs;

/// A page of a cache.
const PART: [u8; 64] = [5; 64];

fn fingerprint(hash: &str) -> Fingerprint {
    Fingerprint {
        label: "a model".into(),
        hash: hash.into(),
    }
}

/// Saves a message and a cache of these parts.
fn save(
    path: &Path,
    known: Option<&mut Known>,
    message: &str,
    parts: &[Vec<u8>],
) -> Result<Known, Error> {
    let image = Image {
        fingerprint: &fingerprint("1"),
        content: &json!({"messages": [message]}),
        tokens: &[7, 8, 70_000],
        cache: &|put, table| {
            for part in parts {
                table.extend(put(part)?.to_le_bytes());
            }
            Ok(())
        },
    };
    image.save(path, known)
}

/// The message, the parts, and what is known of the file now.
fn load(path: &Path) -> Result<(String, Vec<Vec<u8>>, Known), Error> {
    let failed = |error: io::Error| Saved::damaged(path, error);
    let known = Known::new(path);
    let mut saved = Saved::open(path)?;
    let message = saved.content()["messages"][0].as_str().unwrap().to_string();
    assert_eq!(saved.tokens(&fingerprint("1"))?, [7, 8, 70_000]);
    let (table, mut get) = saved.cache();
    let (places, _) = table.as_chunks::<8>();
    let mut parts = Vec::new();
    for place in places {
        let mut part = vec![0; PART.len()];
        get(u64::from_le_bytes(*place), &mut part).map_err(failed)?;
        parts.push(part);
    }
    drop(get);
    Ok((message, parts, known.read(saved.into_extent())))
}

/// Parts that differ.
fn parts(numbers: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    numbers.map(|number| vec![number; PART.len()]).collect()
}

/// A file of two saves, and the length of the first.
fn two_saves(folder: &Path) -> (PathBuf, usize) {
    let path = folder.join("talk.session");
    let mut known = save(&path, None, "hello", &parts(0..3)).unwrap();
    let first = fs::metadata(&path).unwrap().len() as usize;
    save(&path, Some(&mut known), "good-bye", &parts(1..4)).unwrap();
    (path, first)
}

#[test]
fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.session");
    save(&path, None, "hello", &parts(0..3)).unwrap();
    let (message, read, _) = load(&path).unwrap();
    assert_eq!((message.as_str(), read), ("hello", parts(0..3)));
}

#[test]
fn a_save_adds_what_is_new_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = two_saves(folder.path());
    let grown = fs::read(&path).unwrap();
    assert!(!Saved::open(&path).unwrap().is_older());
    let (message, read, mut known) = load(&path).unwrap();
    assert_eq!((message.as_str(), read), ("good-bye", parts(1..4)));
    // One part and one save, in a file that is alike to its first end.
    let added = grown.len() - first;
    let one_save = first - 20 - 3 * (48 + PART.len());
    assert_eq!(
        added,
        48 + PART.len() + one_save + "good-bye".len() - "hello".len()
    );

    // The same from what was read.
    let mut same = save(&path, Some(&mut known), "good-bye", &parts(1..4)).unwrap();
    assert_eq!(fs::read(&path).unwrap()[..grown.len()], grown);
    assert_eq!(
        fs::metadata(&path).unwrap().len() as usize,
        grown.len() + one_save + 3
    );
    // What no save needs any more is not looked for: it would have to be read first.
    save(&path, Some(&mut same), "hello", &parts(0..1)).unwrap();
    assert_eq!(load(&path).unwrap().1, parts(0..1));
}

#[test]
fn a_file_that_is_mostly_waste_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.session");
    let mut known = None;
    let mut lengths = Vec::new();
    for number in 0..30 {
        let parts = [vec![number; 1 << 20], vec![0; PART.len()]];
        known = Some(save(&path, known.as_mut(), "hello", &parts).unwrap());
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    // 16 MB of waste and twice the 1 MB that is needed.
    assert!(
        lengths.iter().all(|&length| length < 20 << 20),
        "{lengths:?}"
    );
    let shrunk = lengths.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(shrunk, 1, "{lengths:?}");
}

#[test]
fn a_save_that_was_cut_off_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = two_saves(folder.path());
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        if end < first {
            assert!(load(&path).is_err(), "cut at {end}");
            continue;
        }
        let (message, read, mut known) = load(&path).unwrap();
        assert_eq!(
            (message.as_str(), read),
            ("hello", parts(0..3)),
            "cut at {end}"
        );
        assert_eq!(Saved::open(&path).unwrap().is_older(), end > first);
        // And it goes on from there.
        save(&path, Some(&mut known), "good-bye", &parts(1..4)).unwrap();
        assert!(fs::read(&path).unwrap() == whole, "cut at {end}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = two_saves(folder.path());
    let whole = fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 4;
        fs::write(&path, &bytes).unwrap();
        match load(&path) {
            Err(_) => {}
            // The first save is still whole, or the bit is in a part that the second does not need.
            Ok((message, ..)) if message == "hello" => {
                assert!(position >= first, "bit in byte {position}");
                assert!(Saved::open(&path).unwrap().is_older());
            }
            Ok((_, read, _)) => {
                assert_eq!(read, parts(1..4), "bit in byte {position}");
                assert!(position < first, "bit in byte {position}");
            }
        }
    }
}

#[test]
fn another_model_is_refused_but_its_text_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = two_saves(folder.path());
    let mut saved = Saved::open(&path).unwrap();
    assert_eq!(saved.content()["messages"][0], "good-bye");
    let error = saved.tokens(&fingerprint("2")).err().unwrap();
    assert!(error.to_string().contains("cannot be continued"), "{error}");
}

#[test]
fn places_and_lengths_that_lie_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = two_saves(folder.path());
    let length = fs::metadata(&path).unwrap().len();
    for place in [0, 1, 19, 21, length - 1, length, u64::MAX - 8, u64::MAX] {
        let mut saved = Saved::open(&path).unwrap();
        assert!(saved.cache().1(place, &mut [0; 64]).is_err(), "{place}");
    }
    let mut saved = Saved::open(&path).unwrap();
    assert!(saved.cache().1(20, &mut [0; 63]).is_err());
    assert!(saved.cache().1(20, &mut [0; 64]).is_ok());

    // A record longer than the file, and a header longer than its save.
    let mut bytes = fs::read(&path).unwrap()[..28].to_vec();
    bytes.extend([0xff; 40]);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(load(&path), Err(Error::Damaged { .. })));
    let file = File::create(&path).unwrap();
    let writer = Writer::new(&file).unwrap();
    writer.save(&(1u64 << 60).to_le_bytes()).unwrap();
    let error = load(&path).err().unwrap().to_string();
    assert!(error.contains("its header is cut off"), "{error}");
}

#[test]
fn a_failed_save_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = two_saves(folder.path());
    let before = fs::read(&path).unwrap();
    let (.., mut known) = load(&path).unwrap();
    let image = Image {
        fingerprint: &fingerprint("1"),
        content: &Value::Null,
        tokens: &[],
        cache: &|put, _| {
            put(&vec![9; 3 << 20])?;
            Err(io::Error::other("full"))
        },
    };
    let unchanged = || {
        assert!(fs::read(&path).unwrap() == before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    };
    assert!(image.save(&path, None).is_err());
    unchanged();
    // Also the second time: what failed was this program's.
    for _ in 0..2 {
        let failed = image.save(&path, Some(&mut known));
        assert!(failed.unwrap_err().to_string().contains("full"));
        assert!(known.is_current());
        unchanged();
    }
    save(&path, Some(&mut known), "good-bye", &parts(1..4)).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(&before));
}

#[test]
fn a_file_that_was_put_in_its_place_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = two_saves(folder.path());
    let (.., mut known) = load(&path).unwrap();
    save(&path, None, "somebody else", &parts(0..1)).unwrap();
    assert!(!known.is_current());
    let refused = save(&path, Some(&mut known), "good-bye", &parts(1..4));
    assert!(matches!(refused, Err(Error::Changed { .. })));
    assert_eq!(load(&path).unwrap().0, "somebody else");
}

#[test]
fn only_a_session_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, "GGUF and much more").unwrap();
    assert!(check_place(&path).is_err());
    let refused = save(&path, None, "hello", &[]).unwrap_err().to_string();
    assert!(refused.contains("no fourfold session"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"GGUF and much more");
}

#[test]
fn what_a_killed_program_left_is_cleared_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("talk.session.fourfold-partial");
    fs::write(&left, "half").unwrap();
    let (path, _) = two_saves(folder.path());
    assert!(!left.exists());
    let other = File::create(&left).unwrap();
    other.try_lock().unwrap();
    let busy = save(&path, None, "hello", &[]).unwrap_err();
    assert!(busy.to_string().contains("another program"));
    assert!(left.exists() && load(&path).is_ok());
}

#[test]
fn two_programs_do_not_add_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = two_saves(folder.path());
    let before = fs::read(&path).unwrap();
    let (.., mut known) = load(&path).unwrap();
    let other = File::open(&path).unwrap();
    other.try_lock().unwrap();
    let refused = save(&path, Some(&mut known), "hello", &parts(0..3));
    assert!(matches!(refused, Err(Error::Changed { .. })));
    drop(other);
    let (.., mut another) = load(&path).unwrap();
    save(&path, Some(&mut another), "hello", &parts(0..3)).unwrap();
    let refused = save(&path, Some(&mut known), "hello", &parts(0..3));
    assert!(matches!(refused, Err(Error::Changed { .. })));
    assert!(fs::read(&path).unwrap().starts_with(&before));
}
