//! Compares clusters with their checksums, as their bytes come in.

use crc32fast::Hasher;

use super::findings::{Fault, Found};
use crate::formats::qcow2::structures::checksum::Sum;
use crate::formats::qcow2::structures::digest::ClusterHasher;
use crate::units::{Exact, HostOffset, rest_of, to_u64, to_usize, within};
use crate::zero::is_zero;

/// Zeros to hash.
const ZEROS: &[u8] = &[0; 4096];

/// The checksum of a cluster of zeros.
pub(super) fn of_zeros(cluster_size: u64) -> u32 {
    let mut hasher = Hasher::new();
    hash_zeros(&mut hasher, cluster_size);
    hasher.finalize()
}

fn hash_zeros(hasher: &mut Hasher, length: u64) {
    in_pieces(length, |zeros| hasher.update(zeros));
}

/// Calls `update` with so many zeros.
fn in_pieces(length: u64, mut update: impl FnMut(&[u8])) {
    let mut left = to_usize(length);
    while left > 0 {
        let (now, _) = ZEROS.split_at(left.min(ZEROS.len()));
        update(now);
        left = left.minus(now.len());
    }
}

/// What is known of a range of the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes<'a> {
    /// All of it, and where it comes from.
    Data(&'a [u8], HostOffset),
    /// So many zeros.
    Zeros(u64),
    /// So many bytes that cannot be read: their clusters are not compared.
    Lost(u64),
}

impl Bytes<'_> {
    fn length(&self) -> u64 {
        match self {
            Self::Data(bytes, _) => to_u64(bytes.len()),
            Self::Zeros(length) | Self::Lost(length) => *length,
        }
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        match self {
            Self::Data(bytes, host) => {
                let (first, second) = bytes.split_at(to_usize(at));
                (Self::Data(first, host), Self::Data(second, host + at))
            }
            Self::Zeros(length) => (Self::Zeros(at), Self::Zeros(length.minus(at))),
            Self::Lost(length) => (Self::Lost(at), Self::Lost(length.minus(at))),
        }
    }
}

/// The clusters of a part of the disk, which come in from its beginning to its end.
pub(super) struct Sums<'a> {
    cluster_size: u64,
    /// The size of the disk in bytes.
    size: u64,
    of_zeros: u32,
    /// How far it is, in bytes of the disk.
    at: u64,
    /// What is known of the clusters from there on; none for one that must be zeros.
    expected: std::slice::Iter<'a, Option<Sum>>,
    /// The cluster that came in in part.
    open: Option<Open>,
    pub(super) compared: u64,
}

struct Open {
    hasher: Hasher,
    /// If its digest is known.
    digest: Option<ClusterHasher>,
    is_zero: bool,
    is_lost: bool,
    host: Option<HostOffset>,
}

impl Open {
    fn add_zeros(&mut self, length: u64) {
        hash_zeros(&mut self.hasher, length);
        if let Some(digest) = &mut self.digest {
            in_pieces(length, |zeros| digest.update(zeros));
        }
    }
}

impl<'a> Sums<'a> {
    /// From `start`, where a cluster begins.
    pub(super) fn new(
        start: u64,
        expected: &'a [Option<Sum>],
        cluster_size: u64,
        size: u64,
        of_zeros: u32,
    ) -> Self {
        Self {
            cluster_size,
            size,
            of_zeros,
            at: start,
            expected: expected.iter(),
            open: None,
            compared: 0,
        }
    }

    /// Adds the next bytes.
    pub(super) fn add(&mut self, bytes: Bytes<'_>, faults: &mut Vec<Found>) {
        if self.expected.len() == 0 {
            // The image has no checksums.
            return;
        }
        let mut rest = bytes;
        while rest.length() > 0 {
            let room = rest_of(self.at, self.cluster_size);
            let (now, later) = rest.split_at(room.min(rest.length()));
            rest = later;
            if now.length() == self.cluster_size {
                self.at.increase(self.cluster_size);
                let expected = self.expected.next();
                let fault = expected.and_then(|expected| self.whole(now, expected.as_ref()));
                self.found(fault, faults);
            } else {
                self.part(now, faults);
            }
        }
    }

    /// A whole cluster.
    fn whole(&mut self, bytes: Bytes<'_>, expected: Option<&Sum>) -> Option<Fault> {
        let start = self.at.minus(self.cluster_size);
        let hasher = expected
            .and_then(|sum| sum.digest)
            .map(|_| ClusterHasher::new(start));
        let (crc, digest, at) = match (bytes, expected) {
            (Bytes::Lost(_), _) => return None,
            (Bytes::Zeros(length), _) => {
                let digest = hasher.map(|mut hasher| {
                    in_pieces(length, |zeros| hasher.update(zeros));
                    hasher
                });
                (self.of_zeros, digest, None)
            }
            (Bytes::Data(bytes, at), None) => {
                return (!is_zero(bytes)).then_some(Fault::NotZeros { at: Some(at) });
            }
            (Bytes::Data(bytes, at), Some(_)) => {
                let digest = hasher.map(|mut hasher| {
                    hasher.update(bytes);
                    hasher
                });
                (crc32fast::hash(bytes), digest, Some(at))
            }
        };
        self.compare(crc, digest.as_ref(), expected?, at)
    }

    fn part(&mut self, bytes: Bytes<'_>, faults: &mut Vec<Found>) {
        let start = self.at.minus(within(self.at, self.cluster_size));
        let expected = self.expected.as_slice().first().and_then(Option::as_ref);
        let open = self.open.get_or_insert_with(|| Open {
            hasher: Hasher::new(),
            digest: expected
                .and_then(|sum| sum.digest)
                .map(|_| ClusterHasher::new(start)),
            is_zero: true,
            is_lost: false,
            host: None,
        });
        match bytes {
            Bytes::Data(bytes, at) => {
                open.hasher.update(bytes);
                if let Some(digest) = &mut open.digest {
                    digest.update(bytes);
                }
                open.is_zero &= is_zero(bytes);
                open.host = open.host.or(Some(at));
            }
            Bytes::Zeros(length) => open.add_zeros(length),
            Bytes::Lost(_) => open.is_lost = true,
        }
        self.at.increase(bytes.length());
        let over = within(self.at, self.cluster_size);
        if over > 0 && self.at < self.size {
            return;
        }
        let Some(mut open) = self.open.take() else { return };
        if over > 0 {
            // The last cluster is padded.
            open.add_zeros(self.cluster_size.minus(over));
        }
        let Some(expected) = self.expected.next().filter(|_| !open.is_lost) else {
            return;
        };
        let fault = match expected {
            None => (!open.is_zero).then_some(Fault::NotZeros { at: open.host }),
            Some(sum) => self.compare(open.hasher.finalize(), open.digest.as_ref(), sum, open.host),
        };
        self.found(fault, faults);
    }

    fn compare(
        &mut self,
        found: u32,
        digest: Option<&ClusterHasher>,
        expected: &Sum,
        at: Option<HostOffset>,
    ) -> Option<Fault> {
        self.compared.increase(1);
        if found != expected.crc {
            let expected = expected.crc;
            return Some(Fault::Checksum { found, expected, at });
        }
        let digest = digest.map(ClusterHasher::finish);
        (digest != expected.digest).then_some(Fault::Digest { at })
    }

    /// A fault of the cluster that ends here.
    fn found(&self, fault: Option<Fault>, faults: &mut Vec<Found>) {
        let last = self.at.minus(1);
        let start = last.minus(within(last, self.cluster_size));
        faults.extend(fault.map(|fault| Found {
            fault,
            range: start..self.at,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: HostOffset = HostOffset(0x1000);

    /// The ranges of the clusters that do not have their checksums, if their bytes come in like this.
    fn failures(expected: &[Option<u32>], size: u64, pieces: &[Bytes<'_>]) -> Vec<(u64, u64)> {
        let sum = |crc| Sum { crc, digest: None };
        let expected: Vec<_> = expected.iter().map(|crc| crc.map(sum)).collect();
        let mut sums = Sums::new(0, &expected, 512, size, of_zeros(512));
        let mut faults = Vec::new();
        for piece in pieces {
            sums.add(*piece, &mut faults);
        }
        faults
            .into_iter()
            .map(|found| (found.range.start, found.range.end))
            .collect()
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_bytes_come() {
        let bytes: Vec<u8> = (0..1536_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let good: Vec<_> = bytes
            .chunks(512)
            .map(|cluster| Some(crc32fast::hash(cluster)))
            .collect();
        let mut bad = good.clone();
        bad[1] = Some(0);
        for length in [1, 100, 511, 512, 513, 1024, 1536] {
            let pieces: Vec<_> = bytes.chunks(length).map(|piece| Bytes::Data(piece, AT)).collect();
            assert_eq!(failures(&good, 1536, &pieces), [], "{length}");
            assert_eq!(failures(&bad, 1536, &pieces), [(512, 1024)], "{length}");
            assert_eq!(failures(&[None; 3], 1536, &pieces).len(), 3, "{length}");
        }
    }

    #[test]
    fn zeros_are_what_is_not_listed() {
        let one = [1; 512];
        let zeros = Some(of_zeros(512));
        assert_eq!(zeros, Some(crc32fast::hash(&[0; 512])));
        assert_eq!(failures(&[None, zeros], 1024, &[Bytes::Zeros(1024)]), []);
        assert_eq!(
            failures(&[None, Some(1)], 1024, &[Bytes::Zeros(1024)]),
            [(512, 1024)]
        );
        let parts = [Bytes::Zeros(256), Bytes::Data(&one[..256], AT)];
        assert_eq!(failures(&[None], 512, &parts), [(0, 512)]);
        let half = [[0; 256], [1; 256]].concat();
        assert_eq!(failures(&[Some(crc32fast::hash(&half))], 512, &parts), []);
    }

    #[test]
    fn the_last_cluster_is_padded() {
        let mut bytes = vec![7; 100];
        bytes.resize(512, 0);
        let expected = [Some(crc32fast::hash(&bytes))];
        assert_eq!(failures(&expected, 100, &[Bytes::Data(&bytes[..100], AT)]), []);
        assert_eq!(
            failures(&expected, 100, &[Bytes::Data(&bytes[..99], AT), Bytes::Zeros(1)]),
            [(0, 100)]
        );
    }

    #[test]
    fn what_is_lost_in_part_is_not_compared() {
        let one = [1; 512];
        let parts = [
            Bytes::Data(&one[..256], AT),
            Bytes::Lost(256 + 512),
            Bytes::Zeros(512),
        ];
        assert_eq!(
            failures(&[Some(0), Some(0), Some(0)], 1536, &parts),
            [(1024, 1536)]
        );
    }
}
