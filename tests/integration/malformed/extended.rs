//! What QEMU ignores in extended L2 entries: it is read as QEMU reads it, and `check` reports it.

use super::patient::{COMPRESSED, Patient};
use crate::support::{Dir, noise, qemu};

#[test]
fn what_qemu_ignores_in_extended_l2_entries_is_read_as_qemu_reads_it_and_reported() {
    let dir = Dir::new("extended-ignored");
    std::fs::write(dir.join("noise"), noise(1, 65536)).unwrap();
    qemu::image(
        &dir,
        "-o extended_l2=on,cluster_size=64k odd.qcow2 1M",
        &[
            "write -q -c -P 7 0 64k",
            "write -q -s noise 64k 64k",
            "write -q -s noise 130k 6k",
        ],
    );
    qemu::img(&dir, "convert -q -O raw odd.qcow2 good.raw");
    let mut patient = Patient::new(std::fs::read(dir.join("odd.qcow2")).unwrap());
    assert!(patient.get64(patient.l2_entry(0)) & COMPRESSED != 0);
    patient.put64(patient.bitmap(0), 0xff00_0000_00ff_00ff);
    patient.set(patient.l2_entry(1), 1);
    patient.set(patient.l2_entry(2), 1);
    patient.set(patient.l2_entry(9), 1);
    std::fs::write(dir.join("odd.qcow2"), &patient.bytes).unwrap();

    qemu::img(&dir, "compare odd.qcow2 good.raw");
    for options in ["", "--keep-going"] {
        dir.run(&format!("restore --no-sync --force {options} odd.qcow2 copy.raw"))
            .exits(0);
        assert!(std::fs::read(dir.join("copy.raw")).unwrap() == std::fs::read(dir.join("good.raw")).unwrap());
    }
    let check = dir.run("check odd.qcow2").exits(2);
    let l2 = patient.l2(0);
    for finding in [
        format!("error: subcluster bitmaps of the L2 table at {l2:#x}: entry 0 is 0xff000000"),
        format!("error: L2 table at {l2:#x}: entry 1 is"),
        format!("error: L2 table at {l2:#x}: entry 2 is"),
        format!("error: L2 table at {l2:#x}: entry 9 is 0x1, expected reserved bits 0x1 to be clear"),
    ] {
        assert!(check.stdout().contains(&finding), "{finding}\n{}", check.stdout());
    }
}
