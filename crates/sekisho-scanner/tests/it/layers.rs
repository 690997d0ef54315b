use sekisho_advisory::Reason;
use sekisho_scanner::{ANALYSER, LayerIndex, Limits, index_layer, merge};
use sekisho_types::Digest;

use crate::{DEBIAN, Item, file, layer, lock, not_assessed, packages, status, tar};

#[track_caller]
fn check(layers: &[&[Item]], want: &[&str]) {
    let indexes: Vec<_> = layers.iter().map(|items| layer(items)).collect();
    let inventory = merge(&indexes);
    assert_eq!(packages(&inventory), want);
    assert_eq!(not_assessed(&inventory), [""; 0]);
}

fn app(version: &str) -> Item {
    file("app/package-lock.json", lock(&[("a", version)]))
}

#[test]
fn the_topmost_file_is_the_list() {
    check(&[&[app("1.0.0")], &[app("2.0.0")]], &["app/package-lock.json: a 2.0.0"]);
    check(&[&[app("1.0.0"), app("2.0.0")]], &["app/package-lock.json: a 2.0.0"]);
}

#[test]
fn whiteouts_act_on_lower_layers_only() {
    let lower: &[Item] = &[app("1.0.0")];
    check(&[lower, &[Item::Gone("app/package-lock.json")]], &[]);
    check(&[lower, &[Item::Gone("app")]], &[]);
    check(&[lower, &[Item::Gone("ap")]], &["app/package-lock.json: a 1.0.0"]);
    check(&[lower, &[Item::Opaque("app")]], &[]);
    check(&[lower, &[Item::Opaque("")]], &[]);
    let want = &["app/package-lock.json: a 2.0.0"];
    check(&[lower, &[app("2.0.0"), Item::Gone("app/package-lock.json")]], want);
    check(&[lower, &[app("2.0.0"), Item::Opaque("app")]], want);
    check(&[&[Item::Gone("app"), app("2.0.0")]], want);
}

#[test]
fn what_is_replaced_is_gone() {
    let lower: &[Item] = &[app("1.0.0")];
    check(&[lower, &[Item::Dir("app/package-lock.json")]], &[]);
    check(&[lower, &[Item::Fifo("app/package-lock.json")]], &[]);
    check(&[lower, &[Item::Link("app/package-lock.json", "/dev/null")]], &[]);
    check(&[lower, &[file("app", "")]], &[]);
    check(&[lower, &[Item::Link("app", "srv")]], &[]);
    check(&[lower, &[Item::Dir("app")]], &["app/package-lock.json: a 1.0.0"]);
    check(&[lower, &[file("app", ""), Item::Dir("app")]], &[]);
}

#[test]
fn links_of_lower_layers_are_followed() {
    let lower: &[Item] = &[Item::Link("app", "srv/app")];
    check(&[lower, &[app("1.0.0")]], &["srv/app/package-lock.json: a 1.0.0"]);
    // A folder of the same name takes the link's place.
    check(&[lower, &[Item::Dir("app"), app("1.0.0")]], &["app/package-lock.json: a 1.0.0"]);
    let through = [Item::Gone("app/package-lock.json")];
    check(&[lower, &[app("1.0.0")], &through], &[]);
}

#[test]
fn a_package_belongs_to_the_lowest_layer_that_had_it() {
    let dpkg = |list: &[(&str, &str)]| file("var/lib/dpkg/status", status(list));
    let layers = [
        layer(&[file("etc/os-release", DEBIAN), dpkg(&[("bash", "5.2-1"), ("sed", "4.9-1")])]),
        layer(&[dpkg(&[("bash", "5.2-1"), ("sed", "4.9-2"), ("curl", "7.88-1")])]),
        layer(&[dpkg(&[("bash", "5.2-1"), ("curl", "7.88-1"), ("sed", "4.9-1")])]),
    ];
    let inventory = merge(&layers);
    let found: Vec<_> = inventory
        .packages
        .iter()
        .map(|p| {
            let of = |index: &LayerIndex| Some(&index.diff_id) == p.layer.as_ref();
            (p.name.as_str(), layers.iter().position(of))
        })
        .collect();
    // sed left and came back: it is the third layer's.
    assert_eq!(found, [("bash", Some(0)), ("curl", Some(1)), ("sed", Some(2))]);
}

#[test]
fn an_installed_package_stands_for_the_locked_one() {
    let manifest = |version: &str| format!(r#"{{"name": "a", "version": "{version}"}}"#);
    let items = [
        file("app/package-lock.json", lock(&[("a", "1.0.0"), ("b", "1.0.0")])),
        file("app/node_modules/a/package.json", manifest("1.0.0")),
        file("app/node_modules/a/node_modules/a/package.json", manifest("0.9.0")),
        file("app/node_modules/a/esm/package.json", r#"{"type": "module"}"#),
        file("other/package-lock.json", lock(&[("a", "1.0.0")])),
        file(
            "usr/lib/python3/site-packages/Jinja2-3.1.2.dist-info/METADATA",
            "Name: Jinja2\nVersion: 3.1.2\n",
        ),
        file("app/requirements.txt", "jinja2==3.1.2\nrequests==2.30.0\n"),
    ];
    check(
        &[&items],
        &[
            "app/node_modules/a/node_modules/a/package.json: a 0.9.0",
            "app/node_modules/a/package.json: a 1.0.0",
            "app/package-lock.json: b 1.0.0",
            "app/requirements.txt: requests 2.30.0",
            "other/package-lock.json: a 1.0.0",
            "usr/lib/python3/site-packages/Jinja2-3.1.2.dist-info/METADATA: Jinja2 3.1.2",
        ],
    );
}

#[test]
fn a_lock_file_of_another_tool_is_said_unless_its_packages_are_installed() {
    let yarn = [file("app/yarn.lock", "# yarn lockfile v1\n")];
    assert_eq!(
        not_assessed(&merge(&[layer(&yarn)])),
        ["app/yarn.lock: this kind of lock file is not read yet"]
    );
    let manifest = r#"{"name": "a", "version": "1.0.0"}"#;
    let installed = [yarn[0].clone(), file("app/node_modules/a/package.json", manifest)];
    check(&[&installed], &["app/node_modules/a/package.json: a 1.0.0"]);
}

#[test]
fn an_index_of_another_version_is_said() {
    let old = LayerIndex { analyser: 0, ..layer(&[app("1.0.0")]) };
    assert_eq!(not_assessed(&merge(&[old])), ["layer: its index is of version 0, not 4"]);
}

#[test]
fn limits_are_reached_aloud() {
    let items =
        [app("1.0.0"), file("srv/package-lock.json", lock(&[("b", "1.0.0"), ("c", "1.0.0")]))];
    let reasons = |limits: &Limits| {
        let index = index_layer(tar(&items).as_slice(), limits).unwrap();
        let inventory = merge(&[index]);
        let reasons: Vec<_> = inventory.not_assessed.iter().map(|n| n.reason).collect();
        (inventory.packages.len(), reasons)
    };
    assert_eq!(reasons(&Limits::default()), (3, vec![]));
    let small = Limits { file_bytes: 80, ..Limits::default() };
    assert_eq!(reasons(&small), (1, vec![Reason::OverLimit]));
    let few = Limits { packages: 2, ..Limits::default() };
    assert_eq!(reasons(&few), (1, vec![Reason::OverLimit]));

    let gone = [Item::Gone("a"), Item::Gone("b"), Item::Gone("c")];
    let one = Limits { paths: 1, ..Limits::default() };
    let index = index_layer(tar(&gone).as_slice(), &one).unwrap();
    assert_eq!(index.removed.len(), 1);
    assert_eq!(index.not_assessed.len(), 1);
}

#[test]
fn an_index_is_small_names_its_layer_and_round_trips() {
    let bytes = tar(&[app("1.0.0"), file("app/server.js", "x".repeat(100_000))]);
    let index = index_layer(bytes.as_slice(), &Limits::default()).unwrap();
    assert_eq!(index.diff_id, Digest::sha256(&bytes));
    assert_eq!((index.size_bytes, index.entries), (bytes.len() as u64, 2));
    assert_eq!(index.analyser, ANALYSER);
    let json = serde_json::to_string(&index).unwrap();
    assert!(json.len() < 500, "{json}");
    assert_eq!(serde_json::from_str::<LayerIndex>(&json).unwrap(), index);
}

#[test]
fn names_that_are_no_text_stay_apart() {
    use sekisho_oci::layer::{Entry, Writer};
    let mut writer = Writer::new(Vec::new());
    for (name, version) in [(b'\xfe', "1.0.0"), (b'\xff', "2.0.0")] {
        let text = lock(&[("a", version)]);
        let path = [&[name][..], b"/package-lock.json"].concat();
        writer.append_data(&Entry::file(path, text.len() as u64), &mut text.as_bytes()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let index = index_layer(bytes.as_slice(), &Limits::default()).unwrap();
    assert_eq!(
        packages(&merge(&[index])),
        ["\\xfe/package-lock.json: a 1.0.0", "\\xff/package-lock.json: a 2.0.0"]
    );
}

/// Whoever makes an image chooses how many of its files say something.
#[test]
fn many_files_and_layers_are_put_together_in_little_time() {
    let name = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let files: Vec<Item> = (0..4000)
        .flat_map(|at| {
            [
                file(name(format!("srv/{at}/poetry.lock")), ""),
                file(name(format!("srv/{at}/yarn.lock")), ""),
                file(name(format!("srv/{at}/etc/os-release")), ""),
                file(
                    name(format!("var/lib/dpkg/status.d/x/status.d/{at}")),
                    "Package: a\nVersion: 1\n",
                ),
            ]
        })
        .collect();
    let mut layers = vec![layer(&files)];
    layers.extend((0..500).map(|at| layer(&[file(name(format!("etc/{at}")), "")])));
    let inventory = merge(&layers);
    assert_eq!(inventory.packages, []);
    let of = |ending: &str| {
        let named = |entry: &&sekisho_advisory::NotAssessed| {
            entry.path.as_deref().is_some_and(|path| path.ends_with(ending))
        };
        inventory.not_assessed.iter().filter(named).count()
    };
    assert_eq!((of("poetry.lock"), of("yarn.lock")), (21, 4000));
}
