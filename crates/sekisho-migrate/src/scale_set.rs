//! ARC's scale-set mode: `actions.github.com/v1alpha1`, and the values of its chart.

use sekisho_workflow::Position;
use sekisho_workflow::yaml::{Key, Node, NodeValue};
use serde_json::json;

use crate::Options;
use crate::credentials::Credentials;
use crate::draft::{Draft, SignIn, are_labels};
use crate::pod::{self, Said};
use crate::report::Report;
use crate::source::{Document, fields, get, json, text_of, texts};
use crate::table::{SET, VALUES};

/// The greatest number of runners that the schema allows.
const RUNNERS_MAX: i64 = 10_000;

/// Whether it is an address as the schema has it: without a user, and without a path.
fn is_proxy(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        !host.is_empty() && !host.contains(['/', '?', '#', '@'])
    })
}

/// An AutoscalingRunnerSet.
pub(crate) fn of_set(document: &Document, options: &Options, report: &mut Report) -> Draft {
    let mut set = Set::new(document, SET, "spec.", options, report);
    let spec = get(&document.node, "spec");
    for (key, value) in spec.map(fields).unwrap_or_default() {
        set.field(key, value);
    }
    set.end()
}

/// Values of the chart; they have no name of their own.
pub(crate) fn of_values(
    document: &Document,
    options: &Options,
    report: &mut Report,
) -> Option<Draft> {
    let mut set = Set::new(document, VALUES, "", options, report);
    set.draft.name = options.release.clone().unwrap_or_default();
    for (key, value) in fields(&document.node) {
        set.field(key, value);
    }
    Some(set.end())
}

struct Set<'a> {
    draft: Draft,
    section: &'static str,
    prefix: &'static str,
    options: &'a Options,
    report: &'a mut Report,
    /// The scale set's name, and where it stands.
    name: Option<(String, Position)>,
    labels: Option<(Vec<String>, Position)>,
    has_max: bool,
}

impl<'a> Set<'a> {
    fn new(
        document: &Document,
        section: &'static str,
        prefix: &'static str,
        options: &'a Options,
        report: &'a mut Report,
    ) -> Self {
        let field = if section == SET { "spec.githubConfigSecret" } else { "githubConfigSecret" };
        let sign_in =
            SignIn { secret: "github".to_owned(), known: None, section, field, at: document.at };
        let mut draft = Draft::new(document, &document.name, sign_in);
        draft.class["container"]["mode"] = json!("None");
        draft.spec = json!({ "scaling": { "max": RUNNERS_MAX } });
        Self { draft, section, prefix, options, report, name: None, labels: None, has_max: false }
    }

    fn say(&mut self, field: &str, at: Position, outcome: usize) {
        let field = format!("{}{field}", self.prefix);
        self.report.say(&self.draft.document, self.section, &field, at, outcome);
    }

    fn field(&mut self, key: &Key, value: &Node) {
        let name = key.text.as_str();
        let empty = match &value.value {
            NodeValue::Null => true,
            NodeValue::Mapping(fields) => fields.is_empty(),
            NodeValue::Sequence(items) => items.is_empty(),
            NodeValue::String(text) => text.is_empty(),
            _ => false,
        };
        // The chart's own values have every key, most of them empty.
        if empty {
            return;
        }
        let outcome = match name {
            "githubConfigUrl" => {
                self.draft.url =
                    text_of(Some(value)).map(|url| url.trim_end_matches('/').to_owned());
                0
            }
            "githubConfigSecret" => return self.secret(key, value),
            "runnerGroup" => {
                let group = text_of(Some(value)).unwrap_or_default();
                // ARC takes the default group's name in lower case.
                let group = if group == "default" { "Default".to_owned() } else { group };
                self.draft.spec["group"] = json!(group);
                0
            }
            "runnerScaleSetName" => {
                self.name = text_of(Some(value)).map(|name| (name, key.at));
                return;
            }
            "runnerScaleSetLabels" | "scaleSetLabels" => {
                self.labels = Some((texts(value), key.at));
                return;
            }
            "minRunners" => {
                self.draft.spec["scaling"]["idle"] = json(value);
                0
            }
            "maxRunners" => {
                self.draft.spec["scaling"]["max"] = json(value);
                self.has_max = true;
                0
            }
            "template" => {
                let prefix = format!("{}template", self.prefix);
                let mut said = Said { report: &mut *self.report, prefix: &prefix };
                pod::template(&mut self.draft, value, &mut said);
                0
            }
            "containerMode" if self.section == VALUES => self.container_mode(value),
            "proxy" => self.proxy(value),
            "namespaceOverride" if self.section == VALUES => {
                self.draft.namespace = text_of(Some(value));
                0
            }
            _ => {
                let field = format!("{}{name}", self.prefix);
                if crate::table::find(self.section, &field).outcomes.is_empty() {
                    let prefix = self.prefix.trim_end_matches('.');
                    let mut said = Said { report: &mut *self.report, prefix };
                    return pod::unknown(&self.draft, name, key.at, &mut said);
                }
                0
            }
        };
        self.say(name, key.at, outcome);
    }

    fn container_mode(&mut self, value: &Node) -> usize {
        match text_of(get(value, "type")).as_deref() {
            Some("dind") => {
                self.draft.docker();
                0
            }
            Some("kubernetes" | "kubernetes-novolume") => 1,
            _ => 2,
        }
    }

    /// One proxy for both schemes, and without a password.
    fn proxy(&mut self, value: &Node) -> usize {
        let of = |scheme: &str, field: &str| {
            let found = get(value, scheme).and_then(|it| text_of(get(it, field)));
            found.filter(|text| !text.is_empty())
        };
        let (http, https) = (of("http", "url"), of("https", "url"));
        let asks = ["http", "https"].iter().any(|it| of(it, "credentialSecretRef").is_some());
        let other = http.is_some_and(|http| https.as_ref() != Some(&http));
        let Some(url) = https.filter(|url| is_proxy(url) && !asks && !other) else { return 1 };
        self.draft.proxy = json!({ "url": url });
        let none = get(value, "noProxy").map(texts).unwrap_or_default();
        if !none.is_empty() {
            self.draft.proxy["noProxy"] = json!(none);
        }
        0
    }

    /// A secret's name, or, in values, what is in one. A key is never copied.
    fn secret(&mut self, key: &Key, value: &Node) {
        self.draft.sign_in.at = key.at;
        if let Some(name) = text_of(Some(value)) {
            self.draft.sign_in.secret = name;
            return;
        }
        let of = |name: &str| text_of(get(value, name)).filter(|text| !text.is_empty());
        let known = Credentials {
            app_id: of("github_app_id"),
            installation_id: of("github_app_installation_id"),
            token: of("github_token").is_some(),
        };
        if known != Credentials::default() {
            self.draft.sign_in.known = Some(known);
            self.say("githubConfigSecret", key.at, 4);
        }
    }

    fn end(mut self) -> Draft {
        // Another scale set would be another queue: the name is kept whatever the object is called.
        let (name, at) = match self.name.take() {
            Some((name, at)) => (name, at),
            None => (self.draft.name.clone(), self.draft.document.at),
        };
        if self.section == VALUES && self.options.release.is_none() {
            self.draft.name.clone_from(&name);
        }
        let named = are_labels(std::slice::from_ref(&name), true);
        self.say("runnerScaleSetName", at, usize::from(!named && !name.is_empty()));
        let mut all = vec![name];
        if let Some((labels, at)) = self.labels.take() {
            all.extend(labels);
            let field = if self.section == SET { "runnerScaleSetLabels" } else { "scaleSetLabels" };
            self.say(field, at, usize::from(!are_labels(&all, true)));
        }
        self.draft.spec["labels"] = json!(all);
        if !self.has_max {
            self.say("maxRunners", self.draft.document.at, 1);
        }
        if self.draft.url.is_none() {
            let at = self.draft.document.at;
            let field = format!("{}githubConfigUrl", self.prefix);
            let note = "there is none, so it is not known whose jobs are taken";
            self.report.add(&self.draft.document, &field, at, crate::Verdict::Blocked, "", note);
        }
        self.draft
    }
}
