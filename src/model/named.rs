//! Kinds with a name each, declared once.

/// An enum whose kinds have a word for reports: declares it with `ALL`, in the order written, and `as_str`.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $Name:ident { $($(#[$doc:meta])* $kind:ident = $word:literal,)* }) => {
        $(#[$meta])*
        pub enum $Name {
            $($(#[$doc])* $kind,)*
        }

        impl $Name {
            /// All kinds, in the order of reports.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$kind),*];

            /// Its name in reports and traces.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

pub(crate) use named;
