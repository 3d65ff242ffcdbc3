//! Makes readers of messages: one list of fields, two encodings.
//!
//! `build.rs` writes one [`message!`] for each message of `proto/kubernetes-slim.proto`; kinds without a protobuf
//! form are listed by hand with [`json_message!`].

/// A message with its JSON names: `Name { field: Type, "jsonName"; … }`.
macro_rules! json_message {
    ($message:ident { $($field:ident: $type:ty, $json:literal;)* }) => {
        #[derive(Debug, Default)]
        pub(in crate::ingest::objects) struct $message<'a> {
            $(pub(in crate::ingest::objects) $field: $type,)*
            _borrows: std::marker::PhantomData<&'a ()>,
        }

        impl<'a> $crate::ingest::objects::raw::json::Fields<'a> for $message<'a> {
            fn field<A: serde::de::MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
                match name {
                    $($json => self.$field = $crate::ingest::objects::raw::json::value(map, $json)?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }

        impl<'a> $crate::ingest::objects::raw::json::Json<'a> for $message<'a> {
            const EXPECTED: &'static str = "an object";

            fn from_map<A: serde::de::MapAccess<'a>>(map: A) -> Result<Self, A::Error> {
                $crate::ingest::objects::raw::json::fields(map)
            }
        }
    };
}

/// A message with its JSON names and field numbers: `Name { field: Type, "jsonName", 1; … }`.
macro_rules! message {
    ($message:ident { $($field:ident: $type:ty, $json:literal, $number:literal;)* }) => {
        json_message! { $message { $($field: $type, $json;)* } }

        impl<'a> $crate::ingest::objects::raw::protobuf::Message<'a> for $message<'a> {
            fn merge_field(
                &mut self,
                number: u32,
                wire: prost::encoding::WireType,
                input: &mut &'a [u8],
            ) -> Result<bool, $crate::ingest::objects::raw::protobuf::Fault> {
                use $crate::ingest::objects::raw::protobuf::Wire as _;
                match number {
                    $($number => self.$field.merge(wire, input).map_err(|fault| fault.within($json))?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

pub(in crate::ingest::objects) use {json_message, message};
