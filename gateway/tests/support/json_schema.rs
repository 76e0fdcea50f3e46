//! As much of JSON Schema as docs/openapi.yaml uses. A keyword that is not known here panics, so
//! that nothing of the file goes unchecked in silence.

use std::fmt::Display;

use notify_gateway::http::STREAM_PATH;
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

const FILE: &str = include_str!("../../../docs/openapi.yaml");

/// docs/openapi.yaml.
pub(crate) struct OpenApi(Value);

impl OpenApi {
    pub(crate) fn read() -> Self {
        let [document] = &YamlLoader::load_from_str(FILE).expect("YAML")[..] else {
            panic!("docs/openapi.yaml is one document")
        };
        Self(json(document))
    }

    #[cfg(test)]
    fn of(schemas: Value) -> Self {
        Self(serde_json::json!({"components": {"schemas": schemas}}))
    }

    /// What a path through the document leads to, references included.
    pub(crate) fn at(&self, path: &[&str]) -> &Value {
        path.iter().fold(&self.0, |value, name| {
            let found = self.resolve(value).get(name);
            self.resolve(found.unwrap_or_else(|| panic!("docs/openapi.yaml has no {path:?}")))
        })
    }

    /// The schema of this name.
    pub(crate) fn schema(&self, name: &str) -> &Value {
        self.at(&["components", "schemas", name])
    }

    /// The schema of the stream's events.
    pub(crate) fn event(&self) -> &Value {
        let content = ["paths", STREAM_PATH, "get", "responses", "200", "content"];
        self.at(&[&content[..], &["text/event-stream", "itemSchema"]].concat())
    }

    /// # Errors
    ///
    /// The first thing in which `value` is not as `schema` says, and where.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema).as_object().expect("a schema is an object");
        schema.iter().try_for_each(|(keyword, rule)| {
            self.keyword(schema, keyword, rule, value).map_err(|error| format!("{error}, {value}"))
        })
    }

    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
    ) -> Result<(), String> {
        let limit = || rule.as_f64();
        let list = || rule.as_array().expect("a list");
        let matching = || list().iter().filter(|schema| self.check(schema, value).is_ok()).count();
        let errors = || {
            list().iter().filter_map(|schema| self.check(schema, value).err()).collect::<Vec<_>>()
        };
        match keyword {
            "description" | "examples" => Ok(()),
            "type" => one_of(rule, |name| is_of_type(name.as_str().expect("a type"), value)),
            "const" => expect(rule == value, rule),
            "enum" => expect(list().contains(value), rule),
            "not" => expect(self.check(rule, value).is_err(), "something else"),
            "oneOf" => expect(matching() == 1, errors().join("; ")),
            "anyOf" => expect(matching() > 0, errors().join("; ")),
            "required" => list().iter().try_for_each(|name| {
                let name = name.as_str().expect("a name");
                expect(value.as_object().is_none_or(|object| object.contains_key(name)), name)
            }),
            "properties" => {
                rule.as_object().expect("schemas").iter().try_for_each(|(name, rule)| {
                    let property = value.get(name).filter(|_| value.is_object());
                    property.map_or(Ok(()), |property| {
                        self.check(rule, property).map_err(|error| format!("{name}: {error}"))
                    })
                })
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false));
                let known = schema["properties"].as_object().expect("schemas");
                let other = value.as_object().and_then(|object| {
                    object.keys().find(|name| !known.contains_key(name.as_str()))
                });
                other.map_or(Ok(()), |other| Err(format!("{other} is not described")))
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| self.check(rule, item))
            }
            // A limit of numbers holds for numbers only, and a length for text only.
            "minimum" => expect(value.as_f64().is_none_or(|number| Some(number) >= limit()), rule),
            "maximum" => expect(value.as_f64().is_none_or(|number| Some(number) <= limit()), rule),
            "exclusiveMinimum" => {
                expect(value.as_f64().is_none_or(|number| Some(number) > limit()), rule)
            }
            "minLength" => expect(length(value).is_none_or(|n| Some(n) >= rule.as_u64()), rule),
            "maxLength" => expect(length(value).is_none_or(|n| Some(n) <= rule.as_u64()), rule),
            "format" => value.as_str().map_or(Ok(()), |text| {
                expect(is_of_format(rule.as_str().expect("a format"), text), rule)
            }),
            // The one pattern of the file: the names that watch() accepts for an event.
            "pattern" => {
                assert_eq!(rule, "^[A-Za-z0-9_.:-]{1,64}$");
                let is_inside = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
                let is_name =
                    |name: &str| (1..=64).contains(&name.len()) && name.chars().all(is_inside);
                expect(value.as_str().is_none_or(is_name), rule)
            }
            "contentMediaType" => {
                assert_eq!(rule, "application/json");
                Ok(())
            }
            "contentSchema" => {
                let text = value.as_str().ok_or("expected text")?;
                let content = serde_json::from_str(text).map_err(|error| error.to_string())?;
                self.check(rule, &content)
            }
            other => panic!("docs/openapi.yaml has {other}, which this check does not know"),
        }
    }

    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref") else { return value };
        assert_eq!(value.as_object().expect("an object").len(), 1, "{value}");
        let path = reference.as_str().and_then(|path| path.strip_prefix("#/")).expect("#/…");
        self.at(&path.split('/').collect::<Vec<_>>())
    }
}

fn expect(is_so: bool, what: impl Display) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(format!("expected {what}")) }
}

fn one_of(rule: &Value, is_so: impl Fn(&Value) -> bool) -> Result<(), String> {
    let is_any = match rule {
        Value::Array(rules) => rules.iter().any(is_so),
        rule => is_so(rule),
    };
    expect(is_any, rule)
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is not a type"),
    }
}

fn is_of_format(name: &str, text: &str) -> bool {
    match name {
        "date-time" => humantime::parse_rfc3339(text).is_ok(),
        "uuid" => text.len() == 36 && text.parse::<uuid::Uuid>().is_ok(),
        "uri" => text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()),
        other => panic!("{other} is not a format that is known here"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => (*value).into(),
        Yaml::Integer(value) => (*value).into(),
        Yaml::Real(_) => yaml.as_f64().into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(fields) => {
            let name = |name: &Yaml| name.as_str().expect("names are text").to_owned();
            Value::Object(fields.iter().map(|(key, value)| (name(key), json(value))).collect())
        }
        Yaml::Alias(_) | Yaml::BadValue => panic!("docs/openapi.yaml cannot be read"),
    }
}

#[test]
fn what_is_not_as_the_schema_says_is_found() {
    let schemas = serde_json::json!({
        "Time": {"type": "string", "format": "date-time"},
        "Event": {
            "type": "object",
            "required": ["event"],
            "additionalProperties": false,
            "properties": {
                "event": {"enum": ["a", "b"]},
                "data": {"type": "string", "contentSchema": {"$ref": "#/components/schemas/Time"}},
                "count": {"type": ["integer", "null"], "minimum": 1},
                "either": {"oneOf": [{"const": 1}, {"type": "integer"}]},
            },
        },
    });
    let api = OpenApi::of(schemas);
    let check = |text: &str| {
        api.check(api.schema("Event"), &serde_json::from_str(text).unwrap()).map_err(|_| ())
    };
    for good in [
        r#"{"event":"a"}"#,
        r#"{"event":"b","data":"\"2026-11-29T00:00:00.5Z\"","count":1,"either":2}"#,
        r#"{"event":"b","count":null}"#,
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in [
        "7",
        "{}",
        r#"{"event":"c"}"#,
        r#"{"event":"a","other":1}"#,
        r#"{"event":"a","data":"\"yesterday\""}"#,
        r#"{"event":"a","data":"2026-11-29T00:00:00Z"}"#,
        r#"{"event":"a","count":0}"#,
        r#"{"event":"a","count":1.5}"#,
        r#"{"event":"a","either":1}"#,
    ] {
        assert_eq!(check(bad), Err(()), "{bad}");
    }
}
