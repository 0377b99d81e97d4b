//! The contacts of a list, as bits.

/// A set of small numbers; a million members take 125 kB.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    words: Vec<u64>,
    count: u64,
}

const fn place(number: u32) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

impl Members {
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// True when it was not a member before.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = place(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let added = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(added);
        added
    }

    /// True when it was a member before.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let (word, bit) = place(number);
        let Some(bits) = self.words.get_mut(word) else { return false };
        let removed = *bits & bit != 0;
        *bits &= !bit;
        self.count -= u64::from(removed);
        removed
    }

    /// The members that are `first` or more, ascending.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let (start, bit) = place(first);
        self.words.iter().enumerate().skip(start).flat_map(move |(index, &word)| {
            let mut bits = if index == start { word & !(bit - 1) } else { word };
            std::iter::from_fn(move || {
                if bits == 0 {
                    return None;
                }
                let lowest = bits.trailing_zeros();
                bits &= bits - 1;
                u32::try_from(index * 64).ok().map(|base| base + lowest)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_in_order_from_anywhere() {
        let mut members = Members::default();
        for number in [200, 0, 63, 64, 65, 200] {
            members.insert(number);
        }
        assert_eq!(members.count(), 5);
        assert_eq!(members.from(0).collect::<Vec<_>>(), [0, 63, 64, 65, 200]);
        assert_eq!(members.from(64).collect::<Vec<_>>(), [64, 65, 200]);
        assert_eq!(members.from(201).count(), 0);
        assert!(members.remove(64) && !members.remove(64) && !members.remove(9_999));
        assert_eq!(members.from(63).collect::<Vec<_>>(), [63, 65, 200]);
    }
}
