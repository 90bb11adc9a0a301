//! Names of formats.

/// How a file or device holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte by byte.
    Raw,
    /// As a qcow2 image.
    Qcow2,
    /// As an image of QCOW version 1.
    Qcow,
    /// As a QED image.
    Qed,
}

impl Format {
    /// Its name, as in the options of QEMU.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qcow => "qcow",
            Self::Qed => "qed",
        }
    }

    /// The format by that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "raw" | "file" | "host_device" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "qcow" => Some(Self::Qcow),
            "qed" => Some(Self::Qed),
            _ => None,
        }
    }
}
