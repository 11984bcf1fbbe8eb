//! The connections of one shard: fixed in number, found by index, and told apart by a generation, so that a late
//! completion can never reach the connection that took the place of the one it was meant for.

use crate::service::ConnectionId;

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// A slab that never holds more than its capacity and never moves what it holds to another index.
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> Slab<T> {
    /// An empty slab for at most `capacity` connections. Room for all is reserved, so that it never moves; memory is
    /// taken as places are first needed.
    pub fn new(capacity: usize) -> Slab<T> {
        Slab { places: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a place, or nothing when all are taken.
    pub fn insert(&mut self, value: T) -> Option<ConnectionId> {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.value = Some(value);
            return Some(ConnectionId { index, generation: place.generation });
        }
        if self.places.len() >= self.capacity {
            return None;
        }
        let index = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place { generation: 0, value: Some(value) });
        Some(ConnectionId { index, generation: 0 })
    }

    /// The connection, unless it was removed.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?.value.as_mut()
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let place = self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    /// The id of the connection at `index`, if there is one.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        let place = self.places.get(index)?;
        place.value.as_ref()?;
        Some(ConnectionId { index: u32::try_from(index).ok()?, generation: place.generation })
    }

    /// One past the highest index that was ever used.
    pub fn index_end(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing_after_its_place_was_taken_again() {
        let mut slab = Slab::new(1);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.insert('b'), None, "the capacity is a bound");
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(second.index, first.index);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
    }
}
