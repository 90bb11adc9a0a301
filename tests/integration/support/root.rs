//! Tests that need root end in [`MARK`]: so `tests/run` can leave them out where it is run by another user.

use std::thread;

/// What their names end in.
const MARK: &str = "_as_root";

/// Fails the test unless root runs it, or if its name does not say that it needs root.
#[track_caller]
pub fn needed() {
    let is_root = rustix::process::geteuid().is_root();
    assert!(
        is_root,
        "this test attaches loop devices, mounts filesystems or gives files away: run it as root (sudo, or a \
         container with --privileged), or run tests/run, which leaves out what needs root"
    );
    // Tests run on threads of their names, unless there is one thread for all.
    let thread = thread::current();
    let test = thread.name().filter(|name| name.contains("::"));
    assert!(
        test.is_none_or(|name| name.ends_with(MARK)),
        "this test needs root: its name must end in {MARK}"
    );
}

#[test]
fn a_test_that_needs_root_must_say_so_in_its_name_as_root() {
    let test = |name: &str| {
        let test = thread::Builder::new().name(name.to_owned()).spawn(needed);
        test.unwrap().join()
    };
    let failure = test("devices::a_device").unwrap_err();

    let failure = failure.downcast::<String>().unwrap();
    assert_eq!(*failure, "this test needs root: its name must end in _as_root");
    test("devices::a_device_as_root").unwrap();
}

#[test]
fn tests_that_need_root_are_left_out_by_their_mark() {
    let script = include_str!("../../run");
    assert!(script.lines().any(|line| line == format!("mark={MARK}")));
}
