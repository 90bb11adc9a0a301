//! The UUID of a swap area. Source: swaplabel(8).

use crate::volumes::doubt::Doubt;
use crate::volumes::fields;
use crate::volumes::renewal::{Id, Renewal, random_uuid};
use crate::volumes::view::View;

/// Where it stands.
const UUID: u64 = 1036;

/// Gives a swap area a new UUID.
pub(super) fn renew(view: View<'_>) -> Result<Renewal, Doubt> {
    let old: [u8; 16] = view.structure("swap header", UUID)?;
    if old == [0; 16] {
        return Ok(Renewal::default());
    }
    let new = random_uuid()?;
    Ok(Renewal {
        ids: vec![Id {
            what: "swap UUID",
            partition: None,
            old: fields::uuid(old),
            new: fields::uuid(new),
        }],
        patches: vec![(UUID, new.to_vec())],
    })
}
