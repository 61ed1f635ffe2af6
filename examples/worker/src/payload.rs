//! Payload wrappers for people who start a workflow or send a signal by hand.
//!
//! An input that does not decode fails the *workflow task*, which the server then repeats for
//! ever: the run hangs without failing. A forgotten argument should not cost that much.

use serde::{Serialize, de::DeserializeOwned};
use temporalio_common::{
    data_converters::{
        GenericPayloadConverter, PayloadConversionError, SerializationContext,
        TemporalDeserializable, TemporalSerializable,
    },
    protos::temporal::api::common::v1::Payload,
};

/// A workflow input that may be left out: no payload, or `null`, means `T::default()`.
///
/// An input that is there but wrong is still an error, because running with a default instead
/// would hide the mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional<T>(pub T);

impl<T> From<T> for Optional<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Serialize + 'static> TemporalSerializable for Optional<T> {
    fn to_payload(
        &self,
        ctx: &SerializationContext<'_>,
    ) -> Result<Payload, PayloadConversionError> {
        ctx.converter.to_payload(ctx, &self.0)
    }
}

impl<T: DeserializeOwned + Default + 'static> TemporalDeserializable for Optional<T> {
    fn from_payload(
        ctx: &SerializationContext<'_>,
        payload: Payload,
    ) -> Result<Self, PayloadConversionError> {
        let value: Option<T> = ctx.converter.from_payload(ctx, payload)?;
        Ok(Self(value.unwrap_or_default()))
    }

    fn from_payloads(
        ctx: &SerializationContext<'_>,
        payloads: Vec<Payload>,
    ) -> Result<Self, PayloadConversionError> {
        match <[Payload; 1]>::try_from(payloads) {
            Ok([payload]) => Self::from_payload(ctx, payload),
            Err(none) if none.is_empty() => Ok(Self::default()),
            Err(_) => Err(PayloadConversionError::WrongEncoding),
        }
    }
}

/// A signal payload that can never be wrong: whatever does not decode means `T::default()`.
///
/// Signals come from people typing into a form. Unlike a start, which can simply be repeated, a
/// signal that does not decode would block a run that is already under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lenient<T>(pub T);

impl<T> From<T> for Lenient<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Serialize + 'static> TemporalSerializable for Lenient<T> {
    fn to_payload(
        &self,
        ctx: &SerializationContext<'_>,
    ) -> Result<Payload, PayloadConversionError> {
        ctx.converter.to_payload(ctx, &self.0)
    }
}

impl<T: DeserializeOwned + Default + 'static> TemporalDeserializable for Lenient<T> {
    fn from_payload(
        ctx: &SerializationContext<'_>,
        payload: Payload,
    ) -> Result<Self, PayloadConversionError> {
        Self::from_payloads(ctx, vec![payload])
    }

    fn from_payloads(
        ctx: &SerializationContext<'_>,
        payloads: Vec<Payload>,
    ) -> Result<Self, PayloadConversionError> {
        let decoded = payloads
            .into_iter()
            .next()
            .and_then(|payload| ctx.converter.from_payload::<T>(ctx, payload).ok());
        Ok(Self(decoded.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use temporalio_common::data_converters::{PayloadConverter, SerializationContextData};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Sample {
        count: u32,
    }

    fn json(text: &str) -> Payload {
        Payload {
            metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(),
            data: text.as_bytes().to_vec(),
            ..Default::default()
        }
    }

    fn decode<T: TemporalDeserializable + 'static>(
        payloads: Vec<Payload>,
    ) -> Result<T, PayloadConversionError> {
        let converter = PayloadConverter::default();
        let ctx = SerializationContext::new(&SerializationContextData::None, &converter);
        converter.from_payloads(&ctx, payloads)
    }

    #[test]
    fn an_input_may_be_absent_null_or_partial_but_not_wrong() {
        let decode = decode::<Optional<Sample>>;
        assert_eq!(decode(vec![]).unwrap().0, Sample::default());
        assert_eq!(decode(vec![json("null")]).unwrap().0, Sample::default());
        assert_eq!(decode(vec![json("{}")]).unwrap().0, Sample::default());
        assert_eq!(
            decode(vec![json(r#"{"count":3,"new":1}"#)]).unwrap().0,
            Sample { count: 3 }
        );
        assert!(decode(vec![json(r#"{"count":"three"}"#)]).is_err());
        assert!(decode(vec![json("{}"), json("{}")]).is_err());
    }

    #[test]
    fn a_signal_is_never_wrong() {
        let decode = decode::<Lenient<Sample>>;
        for payloads in [
            vec![],
            vec![json("not json")],
            vec![json(r#""text""#)],
            vec![Payload::default()],
            vec![json("{}"), json("{}")],
        ] {
            assert_eq!(decode(payloads).unwrap().0, Sample::default());
        }
        let given = decode(vec![json(r#"{"count":2}"#)]).unwrap();
        assert_eq!(given.0, Sample { count: 2 });
    }

    #[test]
    fn what_is_written_is_plain_json() {
        let converter = PayloadConverter::default();
        let ctx = SerializationContext::new(&SerializationContextData::None, &converter);
        let payloads = converter
            .to_payloads(&ctx, &Optional(Sample { count: 7 }))
            .unwrap();
        assert_eq!(payloads.len(), 1);
        assert_eq!(payloads[0].data, br#"{"count":7}"#);
    }
}
