//! What people write about what may ship.

use std::path::Path;

use jiff::Unit;
use sekisho_policy::{Decision, Exceptions, Identity, MAX_DAYS, Policies, Target as Place};

use super::{lines, must, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "rules",
        reads: "policies in Cedar",
        holds: "an error has a place in the text, or none; without a permit nothing may be pushed",
        seeds: || {
            vec![
                b"permit(principal, action, resource);\n@id(\"a\") @mode(\"warn\") @message(\"m\") @fix(\"f\") @docs(\"d\")\nforbid(principal, action == Action::\"ship\", resource) when { resource.size_bytes > 1 };\n".to_vec(),
                b"@id(\"p\")\npermit(principal, action == Action::\"push\", resource) when { principal.event_name == \"push\" && resource.in_namespace };\n".to_vec(),
            ]
        },
        words: &[
            "forbid(",
            "permit(",
            "principal",
            "action == Action::\"ship\"",
            "action in [",
            "resource",
            "when {",
            "unless {",
            "};",
            "@id(\"a\")",
            "@mode(\"warn\")",
            "@mode(\"enforce\")",
            "@message(\"m\")",
            "@fix(\"f\")",
            "@docs(\"d\")",
            "resource.size_bytes",
            "principal.repository",
            " has ",
            " like \"*\"",
            " && ",
            " || ",
            "!",
            "((((((((",
            "-",
            "{}",
            "[]",
            "\"",
            "//",
            "\\u{0}",
            "if ",
            " then ",
            " else ",
            ".contains(",
            "9223372036854775807",
        ],
        cost: 100,
        run: rules,
    },
    Target {
        name: "exceptions",
        reads: "the file of exceptions",
        holds: "errors have a place in the file; each has an owner, a reason and an end, not too far off; another end is written so that it is read",
        seeds: || {
            texts(&[
                "[[exception]]\nadvisory = \"CVE-2030-1\"\npackage = \"a\"\nrepository = \"acme/app\"\nowner = \"ann\"\nreason = \"not called\"\napprover = \"bob\"\napproved = \"2030-01-01\"\nends = \"2030-01-31\"\njustification = \"vulnerable_code_not_present\"\n",
                "[[exception]]\nadvisory = \"secret:0123456789abcdef01234567\"\npackage = \"etc/key\"\nrepository = \"acme/*\"\nowner = \"ann\"\nreason = 'x'\napprover = \"bob\"\napproved = \"2030-01-01\"\nends = '2030-01-31' # until then\n",
            ])
        },
        words: &[
            "[[exception]]\n",
            "advisory = ",
            "owner = ",
            "reason = ",
            "approver = ",
            "approved = ",
            "ends = \"2030-02-31\"\n",
            "justification = ",
            "\"2030-01-01T00:00:00\"",
            "package = ",
            "*",
            "\"\"\"",
            "'",
            "#",
            "\\n",
            "ends = '''\n2030-01-31'''",
            "\"-009999-01-01\"",
        ],
        cost: 4,
        run: exceptions,
    },
];

fn rules(input: &[u8]) {
    let text = text(input);
    let policies = match Policies::load(&text) {
        Ok(policies) => policies,
        Err(error) => {
            if let Some(place) = error.place() {
                let inside = place.line >= 1 && place.line <= lines(&text) && place.column >= 1;
                assert!(inside, "{error}");
            }
            return;
        }
    };
    assert_eq!(policies.text(), text);
    assert_eq!(must(Policies::load(&text), "and again").hash(), policies.hash());
    let identity = Identity {
        repository: "acme/app".into(),
        repository_id: "1".into(),
        event_name: "push".into(),
        ..Identity::default()
    };
    let name = must("acme/app".parse(), "a name");
    let place = Place::of(&name, &identity, None);
    let verdict = policies.may_push(&identity, &place);
    assert!(verdict.decision == Decision::Deny || text.contains("permit"), "{verdict:?}");
    assert_eq!(policies.may_push(&identity, &place), verdict);
    assert_eq!(verdict.refusals().is_empty(), verdict.decision.passes());
}

fn exceptions(input: &[u8]) {
    let text = text(input);
    let file = Path::new("exceptions.toml");
    let exceptions = match Exceptions::load(file, &text) {
        Ok(exceptions) => exceptions,
        Err(error) => {
            let place = error.place;
            assert!(place.line >= 1 && place.line <= lines(&text) && place.column >= 1, "{error}");
            return;
        }
    };
    for (position, one) in exceptions.all().iter().enumerate() {
        for said in [&one.advisory, &one.package, &one.owner, &one.reason, &one.approver] {
            assert!(!said.trim().is_empty() && !said.contains(char::is_control), "{said:?}");
        }
        let days = must(one.approved.until((Unit::Day, one.ends)), "it ends").get_days();
        assert!((0..=MAX_DAYS).contains(&days), "{one:?}");
        let changed = exceptions.with_end(position, one.approved).unwrap_or_default();
        let changed = must(Exceptions::load(file, &changed), "another end is read");
        let mut wanted = exceptions.all().to_vec();
        wanted[position].ends = one.approved;
        assert_eq!(changed.all(), wanted);
    }
}
