//! A list that nearly always holds none or one: sixteen bytes, and a heap allocation only from the second item on.

use std::ops::Deref;

/// A few items, in the order in which they came.
#[derive(Debug, Clone)]
pub struct Few<T>(Held<T>);

#[derive(Debug, Clone)]
enum Held<T> {
    None,
    One(T),
    // Boxed, because a `Vec` alone would be larger than all of it.
    #[expect(clippy::box_collection, reason = "a million of these are kept, nearly all of them without it")]
    Many(Box<Vec<T>>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Held::None)
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::None => &[],
            Held::One(item) => std::slice::from_ref(item),
            Held::Many(items) => items,
        }
    }
}

impl<T: Copy> Few<T> {
    /// Appends an item.
    pub fn push(&mut self, item: T) {
        match &mut self.0 {
            Held::None => self.0 = Held::One(item),
            Held::One(first) => self.0 = Held::Many(Box::new(vec![*first, item])),
            Held::Many(items) => items.push(item),
        }
    }

    /// Keeps the items of which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0 {
            Held::None => {}
            Held::One(item) => {
                if !keep(item) {
                    self.0 = Held::None;
                }
            }
            Held::Many(items) => {
                items.retain(keep);
                match items[..] {
                    [] => self.0 = Held::None,
                    [only] => self.0 = Held::One(only),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_list(steps in proptest::collection::vec((any::<bool>(), 0u32..4), 0..40)) {
            let (mut few, mut list) = (Few::default(), Vec::new());
            for (push, item) in steps {
                if push {
                    few.push(item);
                    list.push(item);
                } else {
                    few.retain(|kept| *kept != item);
                    list.retain(|kept| *kept != item);
                }
                prop_assert_eq!(&few[..], &list[..]);
            }
        }
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Few<u32>>(), 16);
    }
}
