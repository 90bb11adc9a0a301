//! New identifiers for a copy, so that it can stand beside its original in one machine: what a format changes of itself.

use rustix::rand::{GetRandomFlags, getrandom};

use super::doubt::Doubt;
use super::view::View;

/// Gives what a stretch holds new identifiers, or says why it must keep them. The stretch was read without a doubt.
pub(super) type Renew = fn(View<'_>) -> Result<Renewal, Doubt>;

/// New identifiers, and the bytes that hold them. There are none of what has no identifier.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    pub(super) ids: Vec<Id>,
    /// Where they are, in bytes of the stretch, and what is written there. None overlaps with another.
    pub(super) patches: Vec<(u64, Vec<u8>)>,
}

/// An identifier, before and after.
#[derive(Debug)]
pub(super) struct Id {
    pub(super) what: &'static str,
    /// The number of the partition, if a table identifies one by it.
    pub(super) partition: Option<u32>,
    pub(super) old: String,
    pub(super) new: String,
}

/// A random UUID (version 4), in the order in which it is written as text.
pub(super) fn random_uuid() -> Result<[u8; 16], Doubt> {
    let mut uuid: [u8; 16] = random()?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    Ok(uuid)
}

/// A random number that is not 0, which means that there is none.
pub(super) fn random_number() -> Result<u32, Doubt> {
    loop {
        let number = u32::from_le_bytes(random()?);
        if number != 0 {
            return Ok(number);
        }
    }
}

/// Random bytes of the kernel. It gives so few of them at once, or none.
fn random<const N: usize>() -> Result<[u8; N], Doubt> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(count) if count == N => Ok(bytes),
        Ok(_) | Err(_) => Err(Doubt::State("the kernel gives no random numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_random_and_of_version_4() {
        let (one, other) = (random_uuid().unwrap(), random_uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!((one[6] >> 4, one[8] >> 6), (4, 2));
    }
}
