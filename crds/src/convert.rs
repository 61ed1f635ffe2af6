//! From the allow-listed worker fields to Kubernetes' own types.
//!
//! Every field is named, so that a field added to one side and forgotten on the other does not
//! compile or is seen by the test that compares both in JSON.

use k8s_openapi::api::core::v1 as core;

use crate::spec::{
    ConfigMapSource, ConfigMapVolume, EmptyDirVolume, EnvFromSource, EnvVar, EnvVarSource, KeyRef,
    KeyToPath, ObjectName, Resources, SecretSource, SecretVolume, Volume, VolumeMount,
};

impl From<ObjectName> for core::LocalObjectReference {
    fn from(from: ObjectName) -> Self {
        Self { name: from.name }
    }
}

impl From<Resources> for core::ResourceRequirements {
    fn from(from: Resources) -> Self {
        Self {
            claims: None,
            limits: (!from.limits.is_empty()).then_some(from.limits),
            requests: (!from.requests.is_empty()).then_some(from.requests),
        }
    }
}

impl From<EnvVar> for core::EnvVar {
    fn from(from: EnvVar) -> Self {
        Self {
            name: from.name,
            value: from.value,
            value_from: from.value_from.map(Into::into),
        }
    }
}

impl From<EnvVarSource> for core::EnvVarSource {
    fn from(from: EnvVarSource) -> Self {
        Self {
            config_map_key_ref: from.config_map_key_ref.map(Into::into),
            secret_key_ref: from.secret_key_ref.map(Into::into),
            field_ref: from.field_ref.map(|f| core::ObjectFieldSelector {
                api_version: None,
                field_path: f.field_path,
            }),
            ..Self::default()
        }
    }
}

impl From<KeyRef> for core::SecretKeySelector {
    fn from(from: KeyRef) -> Self {
        Self {
            name: from.name,
            key: from.key,
            optional: from.optional,
        }
    }
}

impl From<KeyRef> for core::ConfigMapKeySelector {
    fn from(from: KeyRef) -> Self {
        Self {
            name: from.name,
            key: from.key,
            optional: from.optional,
        }
    }
}

impl From<EnvFromSource> for core::EnvFromSource {
    fn from(from: EnvFromSource) -> Self {
        Self {
            prefix: from.prefix,
            secret_ref: from.secret_ref.map(Into::into),
            config_map_ref: from.config_map_ref.map(Into::into),
        }
    }
}

impl From<SecretSource> for core::SecretEnvSource {
    fn from(from: SecretSource) -> Self {
        Self {
            name: from.name,
            optional: from.optional,
        }
    }
}

impl From<ConfigMapSource> for core::ConfigMapEnvSource {
    fn from(from: ConfigMapSource) -> Self {
        Self {
            name: from.name,
            optional: from.optional,
        }
    }
}

impl From<Volume> for core::Volume {
    fn from(from: Volume) -> Self {
        Self {
            name: from.name,
            secret: from.secret.map(Into::into),
            config_map: from.config_map.map(Into::into),
            empty_dir: from.empty_dir.map(Into::into),
            ..Self::default()
        }
    }
}

impl From<SecretVolume> for core::SecretVolumeSource {
    fn from(from: SecretVolume) -> Self {
        Self {
            secret_name: Some(from.secret_name),
            items: items(from.items),
            default_mode: from.default_mode,
            optional: from.optional,
        }
    }
}

impl From<ConfigMapVolume> for core::ConfigMapVolumeSource {
    fn from(from: ConfigMapVolume) -> Self {
        Self {
            name: from.name,
            items: items(from.items),
            default_mode: from.default_mode,
            optional: from.optional,
        }
    }
}

impl From<EmptyDirVolume> for core::EmptyDirVolumeSource {
    fn from(from: EmptyDirVolume) -> Self {
        Self {
            medium: from.medium.map(|_| "Memory".to_owned()),
            size_limit: from.size_limit,
        }
    }
}

impl From<KeyToPath> for core::KeyToPath {
    fn from(from: KeyToPath) -> Self {
        Self {
            key: from.key,
            path: from.path,
            mode: from.mode,
        }
    }
}

impl From<VolumeMount> for core::VolumeMount {
    fn from(from: VolumeMount) -> Self {
        Self {
            name: from.name,
            mount_path: from.mount_path,
            sub_path: from.sub_path,
            read_only: from.read_only,
            ..Self::default()
        }
    }
}

fn items(from: Vec<KeyToPath>) -> Option<Vec<core::KeyToPath>> {
    (!from.is_empty()).then(|| from.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};
    use serde_json::{Value, json};

    use super::*;

    /// The allow-listed types are spelled as Kubernetes spells them, so the same JSON must come
    /// out of both.
    fn same<From, To>(value: &Value)
    where
        From: DeserializeOwned + Serialize + Into<To>,
        To: Serialize,
    {
        let from: From = serde_json::from_value(value.clone()).expect("our type reads it");
        assert_eq!(
            serde_json::to_value(&from).expect("JSON"),
            *value,
            "our type keeps every field"
        );
        let to: To = from.into();
        assert_eq!(
            serde_json::to_value(&to).expect("JSON"),
            *value,
            "Kubernetes' type has every field"
        );
    }

    #[test]
    fn conversions_lose_nothing() {
        let key = json!({"name": "n", "key": "k", "optional": true});
        same::<EnvVar, core::EnvVar>(&json!({"name": "A", "value": ""}));
        same::<EnvVar, core::EnvVar>(&json!({"name": "A", "valueFrom": {"secretKeyRef": key}}));
        same::<EnvVar, core::EnvVar>(&json!({"name": "A", "valueFrom": {"configMapKeyRef": key}}));
        same::<EnvVar, core::EnvVar>(
            &json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}),
        );
        let reference = json!({"name": "n", "optional": false});
        same::<EnvFromSource, core::EnvFromSource>(
            &json!({"prefix": "P_", "secretRef": reference}),
        );
        same::<EnvFromSource, core::EnvFromSource>(&json!({"configMapRef": reference}));
        let items = json!([{"key": "k", "path": "p", "mode": 256}]);
        same::<Volume, core::Volume>(&json!({"name": "v", "secret":
            {"secretName": "s", "items": items, "defaultMode": 288, "optional": true}}));
        same::<Volume, core::Volume>(&json!({"name": "v", "configMap":
            {"name": "s", "items": items, "defaultMode": 288, "optional": true}}));
        same::<Volume, core::Volume>(
            &json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
        );
        same::<Volume, core::Volume>(&json!({"name": "v", "emptyDir": {}}));
        same::<VolumeMount, core::VolumeMount>(
            &json!({"name": "v", "mountPath": "/m", "subPath": "s", "readOnly": true}),
        );
        same::<Resources, core::ResourceRequirements>(
            &json!({"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}}),
        );
        same::<ObjectName, core::LocalObjectReference>(&json!({"name": "n"}));
    }
}
