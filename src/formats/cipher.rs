//! Encrypted clusters: AES-128 in CBC mode, each sector on its own. Spec: qcow2.txt, "Header", `crypt_method`;
//! QEMU, `block/qcow.c`.

use std::fmt;

use aes::Aes128;
use cbc::cipher::{Array, BlockModeDecrypt, KeyIvInit};

use crate::error::{Invalid, Result};
use crate::units::{Exact, GuestOffset, HostOffset, SECTOR, to_u64, to_usize, within};

/// The length of key and initialization vector, in bytes.
const KEY: usize = 16;

/// What opens an encrypted image. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The bytes of a password.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Decrypts what a key was made for. A wrong key cannot be told from the right one.
pub(super) struct Cipher([u8; KEY]);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

impl Cipher {
    /// With the password that was given: its first 16 bytes, padded with zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) if there is none.
    pub(super) fn of(password: Option<&Password>) -> Result<Self> {
        let password = password.ok_or(Invalid::NeedsPassword)?;
        let mut key = [0; KEY];
        for (to, from) in key.iter_mut().zip(&password.0) {
            *to = *from;
        }
        Ok(Self(key))
    }

    /// Fills `buf` with the bytes of the disk from `at` on, which are encrypted at `host`. `read` reads whole sectors
    /// of the file.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub(super) fn read(
        &self,
        host: HostOffset,
        at: GuestOffset,
        buf: &mut [u8],
        read: impl Fn(HostOffset, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let before = within(at.0, SECTOR);
        let first = at.0 / SECTOR;
        if before == 0 && within(to_u64(buf.len()), SECTOR) == 0 {
            read(host, buf)?;
            self.decrypt(first, buf);
            return Ok(());
        }
        let needed = before.plus(to_u64(buf.len()));
        let mut sectors = vec![0; to_usize(needed.next_multiple_of(SECTOR))];
        read(host - before, &mut sectors)?;
        self.decrypt(first, &mut sectors);
        let wanted = sectors.get(to_usize(before)..to_usize(needed));
        // All of it: there are as many sectors as that takes.
        buf.copy_from_slice(wanted.unwrap_or_default());
        Ok(())
    }

    /// Decrypts whole sectors, of which the first has this number in the disk.
    fn decrypt(&self, first: u64, bytes: &mut [u8]) {
        for (number, sector) in (first..).zip(bytes.chunks_exact_mut(to_usize(SECTOR))) {
            let mut vector = [0; KEY];
            for (to, from) in vector.iter_mut().zip(number.to_le_bytes()) {
                *to = from;
            }
            let mut decryptor = cbc::Decryptor::<Aes128>::new(&self.0.into(), &vector.into());
            for block in sector.chunks_exact_mut(KEY) {
                if let Ok(block) = <&mut Array<u8, _>>::try_from(block) {
                    decryptor.decrypt_block(block);
                }
            }
        }
    }
}
