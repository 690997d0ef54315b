//! `chown` and `setuid` where there is one id.

use std::fs;

use sekisho_sandbox::{Isolation, OWNER_ATTRIBUTE, Owner};

use crate::sandbox::{World, run, stdout};

fn owner(world: &World, path: &str) -> Option<Owner> {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(world.upper(path), OWNER_ATTRIBUTE, &mut value).ok()?;
    Owner::from_attribute(&value[..length])
}

#[test]
fn chown_is_seen_by_stat_and_kept_on_the_disk() {
    let world = World::new(Isolation::SingleId);
    fs::create_dir(world.dir.path().join("root/base")).unwrap();
    fs::write(world.dir.path().join("root/base/old"), "").unwrap();
    let out = stdout(&world.spec(
        "mkdir /d; touch /d/f /d/plain; chown 33:34 /d/f /base/old; chown :7 /d; \
         stat -c '%n %u:%g' /d /d/f /d/plain /base /base/old; \
         cd /d; mv f g; ln g h; stat -c '%n %u:%g' g ./h; ls -n g; \
         chown 0:0 h; stat -c '%n %u:%g' g; cp -a /base/old copy; stat -c %u:%g copy",
    ));
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "/d 0:7",
            "/d/f 33:34",
            "/d/plain 0:0",
            "/base 0:0",
            "/base/old 33:34",
            "g 33:34",
            "./h 33:34"
        ]
    );
    assert!(lines[7].contains(" 33 34 "), "{out}");
    assert_eq!(lines[8..], ["g 0:0", "33:34"]);
    assert_eq!(owner(&world, "base/old"), Some(Owner { uid: 33, gid: 34 }));
    assert_eq!(owner(&world, "d"), Some(Owner { uid: 0, gid: 7 }));
    assert_eq!(owner(&world, "d/g"), Some(Owner { uid: 0, gid: 0 }));
    assert_eq!(owner(&world, "d/plain"), None);
    // The lower tree belongs to others as well.
    assert!(world.dir.path().join("root/base/old").exists());
    assert_eq!(fs::metadata(world.upper("base/old")).unwrap().len(), 0);
}

#[test]
fn chown_behaves_as_the_real_one_does() {
    let world = World::new(Isolation::SingleId);
    let out = stdout(&world.spec(
        "touch f; chmod 6755 f; chown 5 f; stat -c %a f; chmod 4755 f; stat -c %a f; \
         chown 5 absent 2>&1 || echo $?; chown 5 /dev/null /proc/self/fd/1; \
         ln -s nowhere link; chown -h 8:9 link; stat -c '%N %u:%g' link; \
         chown 8 link 2>/dev/null || echo dangling",
    ));
    assert_eq!(
        out,
        "755\n4755\nchown: cannot access 'absent': No such file or directory\n1\n\
         'link' -> 'nowhere' 8:9\ndangling\n"
    );
    let (result, ..) = run(&world.spec("ln -s x /l; chown -h 3:4 /l"));
    let owners = result.unwrap().link_owners;
    assert_eq!(owners, [(b"l".to_vec(), Owner { uid: 3, gid: 4 })]);
}

#[test]
fn another_user_is_one_for_children_and_cannot_come_back() {
    let world = World::new(Isolation::SingleId);
    fs::write(world.dir.path().join("root/etc/passwd"), "root:x:0:0::/:/\napp:x:42:43::/:/\n")
        .unwrap();
    let out = stdout(&world.spec(
        "id -u; id -G; setpriv --reuid=42 --regid=43 --groups=44,45 sh -c 'id -u; id -ru; id -g; id -G; \
         sh -c \"id -u\"; touch /tmp/f; chown 42 /tmp/f 2>/dev/null || echo refused; \
         setpriv --reuid=0 id -u 2>/dev/null || echo stays'; id -u",
    ));
    let want = ["0", "0", "42", "42", "43", "43 44 45", "42", "refused", "stays", "0"];
    assert_eq!(out.lines().collect::<Vec<_>>(), want);
}

#[test]
fn a_path_at_the_end_of_a_page_and_many_processes_are_served() {
    let world = World::new(Isolation::SingleId);
    let name = "n".repeat(250);
    let out = stdout(&world.spec(&format!(
        "mkdir -p /{name}/{name}; touch /{name}/{name}/f; chown 7:7 /{name}/{name}/f; \
         for i in 0 1 2 3 4 5 6 7; do (for j in 0 1 2 3 4 5; do \
           chown $i:$j /{name}/{name}; stat -c %u:%g /{name}/{name}/f; done) & done; wait"
    )));
    assert_eq!(out, "7:7\n".repeat(48));
}

#[test]
fn a_process_that_names_its_own_files_means_its_own() {
    let world = World::new(Isolation::SingleId);
    let out = stdout(&world.spec(
        "touch mine other; ln -s /dev/stdin link; chown 5:6 /proc/self/fd/0 < mine; \
         chown 7:8 link < other; stat -c '%n %u:%g' mine other; \
         stat -L -c %u:%g /dev/stdin < mine; stat -L -c %u:%g link < other",
    ));
    assert_eq!(out, "mine 5:6\nother 7:8\n5:6\n7:8\n");
}
