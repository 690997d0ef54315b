//! `--mount=` of RUN.

use sekisho_types::parse_size;

use crate::ast::{CacheSharing, Mount, MountKind, Span};
use crate::expand::Lookup;
use crate::suggest;

/// What a mount may hold, before its type is known to allow it.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    id: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    env: Option<String>,
    sharing: Option<String>,
    size: Option<String>,
    mode: Option<String>,
    uid: Option<String>,
    gid: Option<String>,
    readonly: Option<bool>,
    required: Option<bool>,
}

const KEYS: [&str; 19] = [
    "type",
    "id",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "env",
    "sharing",
    "size",
    "mode",
    "uid",
    "gid",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
];

/// What is wrong, and what to do about it.
pub(super) type Problem = (String, Option<String>);

fn problem<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err((message.into(), None))
}

/// Reads `type=cache,target=/x,…`. The order of the fields means nothing.
///
/// Fields with variables are held back; [`expand`] reads them once their values are known.
pub(super) fn parse(text: &str, span: Span) -> Result<Mount, Problem> {
    read(text, span, None)
}

/// The same with variables replaced.
pub(super) fn expand(mount: &Mount, escape: char, lookup: &Lookup<'_>) -> Result<Mount, Problem> {
    let expand = |value: &str| {
        crate::expand::expand(value, escape, lookup).map_err(|error| (error.to_string(), None))
    };
    read(&mount.raw, mount.span, Some(&expand))
}

/// Replaces the variables of a value.
type Expand<'a> = &'a dyn Fn(&str) -> Result<String, Problem>;

fn read(text: &str, span: Span, expand: Option<Expand<'_>>) -> Result<Mount, Problem> {
    build(take(text, expand)?, text, span)
}

fn take(text: &str, expand: Option<Expand<'_>>) -> Result<Fields, Problem> {
    let mut fields = Fields::default();
    for field in split(text)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        let key = key.trim().to_ascii_lowercase();
        let fixed = matches!(key.as_str(), "from" | "type");
        match expand {
            _ if fixed && value.contains('$') => {
                let hint = "name a stage with `FROM … AS name`, whose FROM may use an ARG";
                let message = format!("variables are not allowed in mount field `{key}`");
                return Err((message, (key == "from").then(|| hint.to_owned())));
            }
            None if value.contains('$') => {
                fields.hold(&key, value)?;
            }
            Some(expand) if !fixed && value.contains('$') => {
                fields.take(&format!("{key}={}", expand(value)?))?;
            }
            _ => fields.take(&field)?,
        }
    }
    Ok(fields)
}

fn build(mut fields: Fields, text: &str, span: Span) -> Result<Mount, Problem> {
    let kind_name = fields.kind.take().unwrap_or_else(|| "bind".to_owned());
    let target = fields.target.take();
    let readonly = fields.readonly.take();
    let mode = number(fields.mode.take(), 8, "mode")?;
    let uid = number(fields.uid.take(), 10, "uid")?;
    let gid = number(fields.gid.take(), 10, "gid")?;
    let (id, from, source) = (fields.id.take(), fields.from.take(), fields.source.take());
    let required = fields.required.take();
    let kind = match kind_name.as_str() {
        "bind" => {
            refuse(&kind_name, &[("id", id.is_some()), ("required", required.is_some())])?;
            MountKind::Bind { from, source }
        }
        "cache" => {
            refuse(&kind_name, &[("required", required.is_some())])?;
            let sharing = sharing(fields.sharing.take())?;
            MountKind::Cache { id, from, source, sharing, mode, uid, gid }
        }
        "tmpfs" => {
            let taken = [("id", id.is_some()), ("from", from.is_some())];
            refuse(&kind_name, &taken)?;
            refuse(&kind_name, &[("source", source.is_some()), ("required", required.is_some())])?;
            MountKind::Tmpfs { size_bytes: fields.size.take().map(|text| size(&text)).transpose()? }
        }
        "secret" => {
            refuse(&kind_name, &[("from", from.is_some())])?;
            let env = fields.env.take();
            // `source` is an old name of `id` here.
            let id = id.or(source);
            if id.is_none() && target.is_none() && env.is_none() {
                return problem("secret mount needs `id`, `target` or `env`");
            }
            MountKind::Secret { id, env, required: required.unwrap_or(false), mode, uid, gid }
        }
        "ssh" => {
            refuse(&kind_name, &[("from", from.is_some())])?;
            let id = id.or(source);
            MountKind::Ssh { id, required: required.unwrap_or(false), mode, uid, gid }
        }
        other => return Err(unknown_kind(other)),
    };
    refuse(
        &kind_name,
        &[
            ("env", fields.env.is_some()),
            ("sharing", fields.sharing.is_some()),
            ("size", fields.size.is_some()),
        ],
    )?;
    if matches!(kind, MountKind::Bind { .. } | MountKind::Tmpfs { .. }) {
        refuse(
            &kind_name,
            &[("mode", mode.is_some()), ("uid", uid.is_some()), ("gid", gid.is_some())],
        )?;
    }
    let needs_target =
        matches!(kind, MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. });
    if needs_target && target.is_none() {
        return problem(format!("{kind_name} mount needs `target`"));
    }
    Ok(Mount { kind, target, readonly, span, raw: text.to_owned() })
}

fn unknown_kind(kind: &str) -> Problem {
    let known = ["bind", "cache", "tmpfs", "secret", "ssh"];
    let hint = match suggest::nearest(kind, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are `{}`", known.join("`, `")),
    };
    (format!("unknown mount type `{kind}`"), Some(hint))
}

fn refuse(kind: &str, fields: &[(&str, bool)]) -> Result<(), Problem> {
    match fields.iter().find(|(_, present)| *present) {
        Some((field, _)) => problem(format!("{kind} mount has no field `{field}`")),
        None => Ok(()),
    }
}

impl Fields {
    /// A field whose value is not known: enough of it that nothing required is missing.
    fn hold(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let held = match key {
            "readonly" | "ro" | "readwrite" | "rw" | "required" => "true",
            "sharing" => "shared",
            "size" | "mode" | "uid" | "gid" => "0",
            _ => value,
        };
        self.take(&format!("{key}={held}"))
    }

    fn take(&mut self, field: &str) -> Result<(), Problem> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        match key.as_str() {
            "readonly" | "ro" => self.readonly = Some(switch(&key, value.as_deref())?),
            "readwrite" | "rw" => self.readonly = Some(!switch(&key, value.as_deref())?),
            "required" => self.required = Some(switch(&key, value.as_deref())?),
            _ => {
                let slot = match key.as_str() {
                    "type" => &mut self.kind,
                    "id" => &mut self.id,
                    "from" => &mut self.from,
                    "source" | "src" => &mut self.source,
                    "target" | "dst" | "destination" => &mut self.target,
                    "env" => &mut self.env,
                    "sharing" => &mut self.sharing,
                    "size" => &mut self.size,
                    "mode" => &mut self.mode,
                    "uid" => &mut self.uid,
                    "gid" => &mut self.gid,
                    _ => {
                        let hint = suggest::nearest(&key, KEYS)
                            .map(|near| format!("did you mean `{near}`?"));
                        return Err((format!("unknown mount field `{key}`"), hint));
                    }
                };
                let Some(value) = value else {
                    return problem(format!("mount field `{key}` needs a value"));
                };
                *slot = Some(value);
            }
        }
        Ok(())
    }
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, Problem> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => problem(format!("mount field `{key}` is either `true` or `false`")),
    }
}

fn sharing(text: Option<String>) -> Result<CacheSharing, Problem> {
    match text.as_deref() {
        None | Some("shared") => Ok(CacheSharing::Shared),
        Some("private") => Ok(CacheSharing::Private),
        Some("locked") => Ok(CacheSharing::Locked),
        Some(other) => Err((
            format!("unknown sharing `{other}` of a cache mount"),
            Some("known are `shared`, `private`, `locked`".to_owned()),
        )),
    }
}

fn number(text: Option<String>, radix: u32, key: &str) -> Result<Option<u32>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match u32::from_str_radix(&text, radix) {
        Ok(number) => Ok(Some(number)),
        Err(_) => {
            let form = if radix == 8 { "an octal number" } else { "a number" };
            problem(format!("mount field `{key}` is `{text}`, not {form}"))
        }
    }
}

fn size(text: &str) -> Result<u64, Problem> {
    let bad = || (format!("mount field `size` is `{text}`, not a size such as `64m`"), None);
    parse_size(text).ok_or_else(bad)
}

/// Splits at commas; a field in double quotes may hold commas.
fn split(text: &str) -> Result<Vec<String>, Problem> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(field) = fields.last_mut() else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    if quoted { problem("quote in `--mount` does not end") } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Result<Mount, String> {
        parse(text, Span::default()).map_err(|(message, _)| message)
    }

    #[test]
    fn reads_each_kind() {
        assert_eq!(
            mount("target=/src,source=.,from=base,rw").unwrap(),
            Mount {
                kind: MountKind::Bind { from: Some("base".into()), source: Some(".".into()) },
                target: Some("/src".into()),
                readonly: Some(false),
                span: Span::default(),
                raw: "target=/src,source=.,from=base,rw".into(),
            }
        );
        let cache = mount("type=cache,sharing=locked,mode=0755,uid=7,dst=/c,id=x").unwrap();
        let MountKind::Cache { id, sharing, mode, uid, gid, .. } = cache.kind else { panic!() };
        assert_eq!(
            (id.as_deref(), sharing, mode, uid, gid),
            (Some("x"), CacheSharing::Locked, Some(0o755), Some(7), None)
        );
        let tmpfs = mount("type=tmpfs,target=/t,size=64m").unwrap();
        assert_eq!(tmpfs.kind, MountKind::Tmpfs { size_bytes: Some(64 << 20) });
        let secret = mount("type=secret,id=a,required,env=A").unwrap();
        let MountKind::Secret { env, required, .. } = secret.kind else { panic!() };
        assert_eq!((env.as_deref(), required), (Some("A"), true));
        assert!(matches!(mount("type=ssh").unwrap().kind, MountKind::Ssh { id: None, .. }));
        let quoted = mount(r#"type=bind,"source=a,b",target=/x"#).unwrap();
        assert!(matches!(quoted.kind, MountKind::Bind { source: Some(s), .. } if s == "a,b"));
    }

    #[test]
    fn values_may_hold_variables() {
        let given = mount("type=cache,id=$ID,target=/c/$ID,mode=$MODE,sharing=${S:-locked},ro=$RO");
        let given = given.unwrap();
        let lookup = |name: &str| match name {
            "ID" => Some("x".to_owned()),
            "MODE" => Some("700".to_owned()),
            "RO" => Some("false".to_owned()),
            _ => None,
        };
        let mount_ = given.expanded('\\', &lookup).unwrap();
        assert_eq!((mount_.target.as_deref(), mount_.readonly), (Some("/c/x"), Some(false)));
        let MountKind::Cache { id, sharing, mode, .. } = mount_.kind else { panic!() };
        assert_eq!((id.as_deref(), sharing, mode), (Some("x"), CacheSharing::Locked, Some(0o700)));
        let bad = mount("type=cache,target=/c,uid=$ID").unwrap();
        assert_eq!(
            bad.expanded('\\', &lookup).unwrap_err(),
            "mount field `uid` is `x`, not a number"
        );
        assert_eq!(
            mount("target=/x,from=$ID").unwrap_err(),
            "variables are not allowed in mount field `from`"
        );
        assert_eq!(mount("type=bind,nope=$ID").unwrap_err(), "unknown mount field `nope`");
    }

    #[test]
    fn refuses_what_does_not_belong() {
        for (text, want) in [
            ("type=bind", "bind mount needs `target`"),
            ("type=bnd,target=/x", "unknown mount type `bnd`"),
            ("target=/x,foo=1", "unknown mount field `foo`"),
            ("target=/x,sharing=locked", "bind mount has no field `sharing`"),
            ("type=tmpfs,target=/x,from=a", "tmpfs mount has no field `from`"),
            ("type=cache,target=/x,sharing=all", "unknown sharing `all` of a cache mount"),
            ("type=cache,target=/x,mode=9", "mount field `mode` is `9`, not an octal number"),
            ("type=cache,target", "mount field `target` needs a value"),
            ("type=secret", "secret mount needs `id`, `target` or `env`"),
            (
                "type=tmpfs,target=/x,size=99999999999t",
                "mount field `size` is `99999999999t`, not a size such as `64m`",
            ),
            ("target=/x,ro=maybe", "mount field `ro` is either `true` or `false`"),
            ("\"target=/x", "quote in `--mount` does not end"),
        ] {
            assert_eq!(mount(text).unwrap_err(), want);
        }
    }
}
