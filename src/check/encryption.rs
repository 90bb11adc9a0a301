//! The header of the encryption. Spec: qcow2.txt, "Full disk encryption header pointer".

use zerocopy::{FromZeros, IntoBytes};

use super::blocks::cut_off;
use super::catalogue::Code;
use super::findings::{Fault, Finding, Log};
use super::structures::Structures;
use crate::error::{Corrupt, Expected, Result};
use crate::formats::qcow2::Image;
use crate::formats::qcow2::structures::extension::{ENCRYPTION, RawEncryption, RawExtension};
use crate::formats::qcow2::structures::extensions::Extension;
use crate::formats::qcow2::structures::header::Encryption;
use crate::units::{HostOffset, to_u64};

/// Finds it, if there should be one.
pub(super) fn read(image: &Image, all: &mut Structures, log: &mut Log<'_>) -> Result<()> {
    let mut extensions = image.extensions().all.iter();
    let extension = extensions.find(|extension| extension.kind == ENCRYPTION);
    let is_luks = image.header().encryption() == Some(Encryption::Luks);
    let text = match extension {
        Some(extension) if is_luks => return find(image, extension, all, log),
        Some(_) => "there is an encryption header extension, but the encryption method has none",
        None if is_luks => "there is no encryption header extension, but the encryption method needs one",
        None => return Ok(()),
    };
    log.add(Finding::new(Code::Encryption, Fault::That(text)));
    Ok(())
}

fn find(image: &Image, extension: &Extension, all: &mut Structures, log: &mut Log<'_>) -> Result<()> {
    const NAME: &str = "encryption header";
    let (file, cluster_size) = (image.file(), image.header().geometry().cluster_size());
    let wrong = |field, found, expected| {
        let fault = Corrupt::Field {
            structure: "encryption header extension",
            at: extension.at,
            field,
            found,
            expected,
        };
        Finding::new(Code::Encryption, fault)
    };
    let size = to_u64(size_of::<RawEncryption>());
    if extension.length != size {
        log.add(wrong("length", extension.length, Expected::Exactly(size)));
        return Ok(());
    }
    let behind_words = extension.at + to_u64(size_of::<RawExtension>());
    let mut raw = RawEncryption::new_zeroed();
    file.read_exact(raw.as_mut_bytes(), behind_words)?;
    let (at, bytes) = (HostOffset(raw.offset.get()), raw.length.get());
    if !at.0.is_multiple_of(cluster_size) {
        log.add(wrong("offset", at.0, Expected::MultipleOf(cluster_size)));
    } else if file.holds(at, bytes) {
        all.add(NAME, 0, at, bytes);
    } else {
        log.add(cut_off(Code::Encryption, NAME, at, file));
    }
    Ok(())
}
