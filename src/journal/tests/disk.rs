//! A simulated disk: what was written and not yet synced is told apart from what is on it, and a crash leaves of the
//! former what a rule says.

use std::collections::BTreeMap;
use std::io;

use crate::journal::recover::Source;

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// Nothing of it.
    Nothing,
    /// All of it.
    All,
    /// The first writes, and the front of the next one.
    Prefix,
    /// Any sectors.
    Sectors,
    /// Any sectors, and one of each write half new, half old or rubbish.
    Torn,
    /// Only the process ended: all is there still, and still not synced.
    Killed,
}

impl Survival {
    pub const ALL: [Survival; 6] =
        [Survival::Nothing, Survival::All, Survival::Prefix, Survival::Sectors, Survival::Torn, Survival::Killed];
}

const SECTOR: usize = 512;
const SPARE: u64 = u64::MAX;
/// A segment that is written anew, before it takes the place of the other one.
const ASIDE: u64 = u64::MAX - 1;
/// The registry's snapshot, and the next one before it takes its place. Both lie in a folder of their own.
pub const SNAPSHOT: u64 = u64::MAX - 2;
const SNAPSHOT_ASIDE: u64 = u64::MAX - 3;
/// The file that names the newest segment in use, in the folder of the snapshot.
pub const HEAD: u64 = u64::MAX - 4;
const HEAD_ASIDE: u64 = u64::MAX - 5;

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    view: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Naming {
    Create(u64, usize),
    Remove(u64),
    Rename(u64, u64),
}

/// Files by name; the greatest names are no segments.
#[derive(Clone, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    durable: BTreeMap<u64, usize>,
    view: BTreeMap<u64, usize>,
    pending: Vec<Naming>,
    current: Option<usize>,
}

impl Disk {
    pub fn create(&mut self) {
        self.create_named(SPARE);
    }

    pub fn remove(&mut self) {
        self.remove_named(SPARE);
    }

    pub fn rename(&mut self, name: u64) {
        self.current = self.view.get(&SPARE).copied();
        self.name(Naming::Rename(SPARE, name));
    }

    fn create_named(&mut self, name: u64) {
        self.remove_named(name);
        self.inodes.push(Inode::default());
        self.name(Naming::Create(name, self.inodes.len() - 1));
    }

    pub fn remove_named(&mut self, name: u64) {
        if self.view.contains_key(&name) {
            self.name(Naming::Remove(name));
        }
    }

    /// Removes a file for good.
    pub fn forget(&mut self, name: u64) {
        self.remove_named(name);
        self.sync_folder();
    }

    /// Begins the file that will take the place of `name`.
    pub fn create_aside(&mut self, name: u64) {
        self.create_named(aside(name));
    }

    pub fn write_aside(&mut self, name: u64, bytes: &[u8]) {
        let inode = self.view[&aside(name)];
        self.inodes[inode].change(Change::Write(0, bytes.to_vec()));
    }

    pub fn sync_aside(&mut self, name: u64) {
        let inode = self.view[&aside(name)];
        self.inodes[inode].sync();
    }

    pub fn sync_named(&mut self, name: u64) {
        let inode = self.view[&name];
        self.inodes[inode].sync();
    }

    pub fn replace(&mut self, name: u64) {
        self.name(Naming::Rename(aside(name), name));
    }

    pub fn has(&self, name: u64) -> bool {
        self.view.contains_key(&name)
    }

    /// What the process sees in a file; nothing where there is none.
    pub fn seen(&self, name: u64) -> &[u8] {
        self.view.get(&name).map_or(&[], |inode| &self.inodes[*inode].view)
    }

    fn name(&mut self, naming: Naming) {
        apply_name(&mut self.view, &naming);
        self.pending.push(naming);
    }

    /// Has all names of the segments' folder on disk.
    pub fn sync_folder(&mut self) {
        self.sync_folder_of(SPARE);
    }

    /// Has all names of the folder on disk that `name` lies in.
    pub fn sync_folder_of(&mut self, name: u64) {
        for naming in self.pending.extract_if(.., |naming| naming.folder() == folder(name)) {
            apply_name(&mut self.durable, &naming);
        }
        for (index, inode) in self.inodes.iter_mut().enumerate() {
            // A file without a name is gone.
            if !self.durable.values().chain(self.view.values()).any(|named| *named == index) {
                *inode = Inode::default();
            }
        }
    }

    pub fn trim(&mut self, name: u64, bytes: usize) {
        if let Some(&inode) = self.view.get(&name) {
            self.inodes[inode].change(Change::Length(bytes));
        }
    }

    pub fn write(&mut self, spare: bool, offset: u64, bytes: &[u8]) {
        let inode = self.inode(spare);
        self.inodes[inode].change(Change::Write(offset as usize, bytes.to_vec()));
    }

    pub fn sync(&mut self, spare: bool) {
        let inode = self.inode(spare);
        self.inodes[inode].sync();
    }

    /// A sync that failed: some of it is on disk, and no later sync will care for the rest.
    pub fn fail_sync(&mut self, spare: bool, random: &mut fastrand::Rng) {
        let inode = self.inode(spare);
        let inode = &mut self.inodes[inode];
        for change in std::mem::take(&mut inode.pending) {
            survive(&mut inode.durable, &change, Survival::Sectors, random);
        }
    }

    fn inode(&self, spare: bool) -> usize {
        if spare { self.view[&SPARE] } else { self.current.expect("a segment was adopted") }
    }

    /// The disk as the next process finds it.
    pub fn crashed(&self, survival: Survival, random: &mut fastrand::Rng) -> Disk {
        let mut disk = self.clone();
        disk.current = None;
        if survival == Survival::Killed {
            return disk;
        }
        for folder in [false, true] {
            let names: Vec<_> = self.pending.iter().filter(|naming| naming.folder() == folder).collect();
            let kept = match survival {
                Survival::Nothing => 0,
                Survival::All => names.len(),
                _ => random.usize(..=names.len()),
            };
            names[..kept].iter().for_each(|naming| apply_name(&mut disk.durable, naming));
        }
        disk.pending.clear();
        disk.view = disk.durable.clone();
        for inode in &mut disk.inodes {
            let changes = std::mem::take(&mut inode.pending);
            let whole = random.usize(..=changes.len());
            for (index, change) in changes.iter().enumerate() {
                match survival {
                    Survival::Prefix if index < whole => apply(&mut inode.durable, change),
                    Survival::Prefix if index > whole => {}
                    _ => survive(&mut inode.durable, change, survival, random),
                }
            }
            inode.view.clone_from(&inode.durable);
        }
        disk
    }

    /// For damage by hand.
    pub fn bytes_mut(&mut self, name: u64) -> &mut Vec<u8> {
        let inode = self.view[&name];
        &mut self.inodes[inode].view
    }

    pub fn names(&self) -> Vec<u64> {
        self.view.keys().copied().filter(|name| *name < HEAD_ASIDE).collect()
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.view, &change);
        self.pending.push(change);
    }
}

impl Naming {
    fn folder(&self) -> bool {
        match *self {
            Naming::Create(name, _) | Naming::Remove(name) | Naming::Rename(name, _) => folder(name),
        }
    }
}

/// Whether it is the folder of the snapshot.
fn folder(name: u64) -> bool {
    [SNAPSHOT, SNAPSHOT_ASIDE, HEAD, HEAD_ASIDE].contains(&name)
}

fn aside(name: u64) -> u64 {
    match name {
        SNAPSHOT => SNAPSHOT_ASIDE,
        HEAD => HEAD_ASIDE,
        _ => ASIDE,
    }
}

fn apply_name(names: &mut BTreeMap<u64, usize>, naming: &Naming) {
    match *naming {
        Naming::Create(name, inode) => drop(names.insert(name, inode)),
        Naming::Remove(name) => drop(names.remove(&name)),
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, new) => put(bytes, *offset, new),
        Change::Length(length) => bytes.resize(*length, 0),
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, new: &[u8]) {
    if bytes.len() < offset + new.len() {
        bytes.resize(offset + new.len(), 0);
    }
    bytes[offset..offset + new.len()].copy_from_slice(new);
}

/// Leaves of a change what the rule says.
fn survive(bytes: &mut Vec<u8>, change: &Change, survival: Survival, random: &mut fastrand::Rng) {
    let Change::Write(offset, new) = change else {
        if survival == Survival::All || (survival != Survival::Nothing && random.bool()) {
            apply(bytes, change);
        }
        return;
    };
    let sectors = new.len().div_ceil(SECTOR);
    let (whole, torn) = (random.usize(..=sectors), random.usize(..sectors));
    for (index, sector) in new.chunks(SECTOR).enumerate() {
        let offset = offset + index * SECTOR;
        let stays = match survival {
            Survival::Nothing => false,
            Survival::All | Survival::Killed => true,
            Survival::Prefix => index < whole,
            Survival::Sectors | Survival::Torn => random.bool(),
        };
        if survival == Survival::Torn && index == torn {
            let cut = random.usize(..sector.len());
            put(bytes, offset, &sector[..cut]);
            if random.bool() {
                let rubbish: Vec<u8> = (cut..sector.len()).map(|_| random.u8(..)).collect();
                put(bytes, offset + cut, &rubbish);
            }
        } else if stays {
            put(bytes, offset, sector);
        }
    }
}

impl Source for Disk {
    fn head(&mut self) -> io::Result<Option<u64>> {
        let bytes = self.seen(HEAD);
        let half = |_| io::Error::other(format!("half of one has its name: {bytes:?}"));
        self.has(HEAD).then(|| bytes.try_into().map(u64::from_le_bytes).map_err(half)).transpose()
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.names())
    }

    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let inode = self.view.get(&name).ok_or(io::ErrorKind::NotFound)?;
        let view = &self.inodes[*inode].view;
        into.extend(&view[..view.len().min(bytes as usize)]);
        Ok(())
    }
}
