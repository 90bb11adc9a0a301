//! QCOW version 1 and QED: what `check`, `verify` and `info` make of them, and who else reads them.

mod check;
mod images;
mod info;
mod verify;

use std::fs;

use images::Plain;

use crate::support::Dir;

#[test]
fn a_format_that_was_given_is_not_doubted() {
    let dir = Dir::new("plain-format");
    Plain::qed(&dir);
    Plain::qcow(&dir);
    fs::write(dir.join("disk.raw"), [7; 4096]).unwrap();

    for verb in ["check", "info", "verify", "restore"] {
        let target = if verb == "restore" { " copy.raw" } else { "" };
        for name in ["disk.qed", "disk.qcow", "disk.raw"] {
            let run = dir.run(&format!("{verb} --format raw {name}{target}"));
            let expected = format!("mkqcow2: {name}: is raw, expected an image\n");
            assert_eq!((run.status(), run.stderr()), (1, expected), "{verb}");
        }
        let refused = if verb == "verify" { 2 } else { 1 };
        for (format, name, says) in [
            (
                "qcow2",
                "disk.qed",
                "magic is 0x51454400, expected 0x514649fb (it does not begin like a qcow2 image)",
            ),
            ("qcow2", "disk.qcow", "version is 1, which is not supported"),
            (
                "qed",
                "disk.qcow",
                "magic is 0x514649fb, expected 0x51454400 (it does not begin like an image of that format)",
            ),
            (
                "qcow",
                "disk.raw",
                "expected 0x514649fb00000001 (it does not begin like an image of that format)",
            ),
        ] {
            let run = dir.run(&format!("{verb} --format {format} {name}{target}"));
            // What is not supported is no damage.
            let status = if says.starts_with("version") { 1 } else { refused };
            run.exits(status).says(says);
        }
        // What begins like nothing that is known is no image, and could not be verified.
        let run = dir.run(&format!("{verb} disk.raw{target}"));
        let expected = "mkqcow2: disk.raw: not a qcow2 image\n".to_owned();
        assert_eq!((run.status(), run.stderr()), (1, expected), "{verb}");
        for (format, name) in [("qed", "disk.qed"), ("qcow", "disk.qcow")] {
            dir.run(&format!("{verb} --format {format} {name}{target}"))
                .exits(0);
            dir.run(&format!("{verb} {name}{target}")).exits(0);
        }
    }
}

#[test]
fn an_image_that_was_not_closed_is_read_if_its_tables_are_right() {
    let dir = Dir::new("plain-needs-check");
    let image = Plain::qed(&dir);
    dir.run("restore -q disk.qed good.raw").exits(0);
    image.needs_check();

    for line in [
        "restore disk.qed copy.raw",
        "compare disk.qed good.raw",
        "map disk.qed",
    ] {
        dir.run(line)
            .exits(0)
            .says("disk.qed: warning: was not closed properly: its tables were checked and can be read");
    }

    assert_eq!(
        fs::read(dir.join("good.raw")).unwrap(),
        fs::read(dir.join("copy.raw")).unwrap()
    );
    // Room that is wasted does not matter for reading.
    image.put(image.l2(0, 2), 0);
    dir.run("restore disk.qed copy.raw").exits(0);
}

#[test]
fn an_image_that_was_not_closed_is_refused_if_its_tables_are_damaged() {
    let dir = Dir::new("plain-needs-check-damaged");
    let image = Plain::qed(&dir);
    image.needs_check();
    let (entry, good) = (image.l2(0, 1), image.get(image.l2(0, 1)));
    let table = image.get(image.l1(0));
    for (value, what) in [
        (
            0x3001,
            format!(
                "L2 table at {table:#x}: entry 1 is 0x3001, expected a multiple of 0x1000 (guest 0x1000 to 0x2000)"
            ),
        ),
        (
            1 << 40,
            format!(
                "L2 table at {table:#x}: entry 1 is 0x10000000000, expected an offset within the file, which has {:#x} bytes (guest 0x1000 to 0x2000)",
                image.length()
            ),
        ),
        (
            table,
            format!(
                "data cluster at {table:#x} (guest 0x1000 to 0x2000) overlaps the L2 table at \
            {table:#x} (guest 0x0 to 0x400000)"
            ),
        ),
        (
            image.get(image.l2(0, 0)),
            "data cluster at 0x3000 (guest 0x1000 to 0x2000) overlaps the data cluster \
            at 0x3000 (guest 0x0 to 0x1000)"
                .to_owned(),
        ),
    ] {
        image.put(entry, value);
        for verb in [
            "restore disk.qed copy.raw",
            "restore --keep-going disk.qed copy.raw",
            "map disk.qed",
        ] {
            dir.run(verb).exits(1).says(&format!(
                "mkqcow2: disk.qed: was not closed properly, and its tables are damaged: {what} \
                 (mkqcow2 check lists all of it; qemu-img check -r all repairs a copy)\n"
            ));
        }
        assert!(!dir.join("copy.raw").exists());
    }
    image.put(entry, good);
    dir.run("restore -q disk.qed copy.raw").exits(0);
}
