//! Where an image comes from, for its record.

use std::env;
use std::path::{self, Path};
use std::time::{SystemTime, UNIX_EPOCH};

use mkqcow2::devices::{Kernel, Subject};
use mkqcow2::formats::qcow2::structures::provenance::Provenance;

/// The variable with the time that reproducible files have.
/// Source: <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The time for reproducible bytes, in seconds since 1970; none if the environment has none.
pub(crate) fn epoch() -> Result<Option<u64>, String> {
    let Some(value) = env::var_os(EPOCH) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number.then(|| value.parse().ok()).flatten();
    let wrong = || format!("{EPOCH} is '{value}', expected seconds since 1970, or --no-provenance");
    seconds.map(Some).ok_or_else(wrong)
}

/// What an image of `source` records. For reproducible bytes: nothing that another host, directory or disk would change.
pub(crate) fn of(source: &Path) -> Provenance {
    let version = Some(env!("CARGO_PKG_VERSION").to_owned());
    // A bad one was refused.
    if let Ok(Some(epoch)) = epoch() {
        return Provenance {
            made: Some(epoch),
            version,
            ..Provenance::default()
        };
    }
    let kernel = Kernel::running();
    let identity = match source.metadata().ok().as_ref().and_then(Subject::of) {
        Some(Subject::Device(number)) => Some(kernel.identity(number)),
        Some(Subject::File(_)) | None => None,
    };
    let identity = identity.unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let path = path::absolute(source).unwrap_or_else(|_| source.to_owned());
    Provenance {
        made: now.ok().map(|now| now.as_secs()),
        host: kernel.host_name(),
        source: Some(path.to_string_lossy().into_owned()),
        model: identity.model,
        serial: identity.serial,
        version,
    }
}
