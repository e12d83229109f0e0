//! Container names.

const ADJECTIVES: [&str; 40] = [
    "amber", "bold", "brisk", "calm", "clever", "crisp", "daring", "deft", "eager", "fair", "fleet", "fond",
    "gentle", "glad", "golden", "hardy", "honest", "jolly", "keen", "kind", "lively", "lucid", "mellow",
    "merry", "mild", "neat", "noble", "patient", "plucky", "proud", "quick", "quiet", "ready", "sober",
    "steady", "stout", "sturdy", "tidy", "warm", "witty",
];
/// People known for their work on computing, mathematics and wood.
const SURNAMES: [&str; 40] = [
    "babbage",
    "backus",
    "boole",
    "church",
    "codd",
    "cray",
    "curry",
    "dijkstra",
    "euler",
    "floyd",
    "gauss",
    "godel",
    "hamilton",
    "hamming",
    "hoare",
    "hollerith",
    "hopper",
    "huffman",
    "johnson",
    "kay",
    "kernighan",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "mccarthy",
    "mclean",
    "naur",
    "noether",
    "perlis",
    "pike",
    "ritchie",
    "shannon",
    "stroustrup",
    "tarjan",
    "thompson",
    "turing",
    "wilkes",
    "wirth",
    "zuse",
];

/// `adjective_surname`, with a digit from the second attempt on, chosen by `random`.
pub(crate) fn generate_name(random: [u8; 3], attempt: usize) -> String {
    let adjective = ADJECTIVES[usize::from(random[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(random[1]) % SURNAMES.len()];
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", random[2] % 100)
    }
}

/// Docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; at least two characters.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes.len() <= 255
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid() {
        for random in [[0, 0, 0], [255, 255, 255], [39, 40, 7]] {
            for attempt in [0, 1] {
                assert!(is_valid_name(&generate_name(random, attempt)));
            }
        }
        for bad in ["", "a", "-a", "a/b", "a b", "é1", &"x".repeat(256)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
