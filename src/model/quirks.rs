//! Where the peer's behaviour differs from ours, one flag per row of its quirk register (D1).

use std::fmt;

macro_rules! quirks {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// One row of the quirk register: what the peer does. Rows where any answer is the peer's (an order of
        /// its hash maps: Q3, Q25) and rows that nothing reads have no flag.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Quirk {
            $($(#[$doc])* $name,)*
        }

        impl Quirk {
            /// Every row that has a flag.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the register.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

quirks! {
    /// A cluster that two Secrets claim is not taken over by the second one when the first goes.
    Q1;
    /// A deleted cluster leaves the recorded accounts of its services behind.
    Q2;
    /// The HBONE port of a NodePort gateway is not translated to its node port.
    Q4;
    /// Ports of a NodePort gateway are translated also for `externalIPs`.
    Q5;
    /// A gateway Service that loses its addresses, or a node that loses its ExternalIP, keeps its gateways.
    Q6;
    /// The same gateway told by a Service and by a Gateway object counts twice.
    Q7;
    /// A Gateway object that loses its network label keeps its gateways.
    Q8;
    /// The view with unresolved gateways is not refreshed together with the resolved one.
    Q9;
    /// Only the cookie label makes a service sticky for draining endpoints, not the header label.
    Q10;
    /// Endpoints that are not ready count in the weight of their gateways.
    Q11;
    /// A network whose only gateways have no mTLS port is to sidecars as one without gateways.
    Q12;
    /// The network of a proxy that names none is not inferred.
    Q13;
    /// Each endpoint's weight is divided by the number of gateways on its own, and rounded down.
    Q14;
    /// A gateway without an mTLS port becomes a Unix socket for routers.
    Q15;
    /// Weights of groups and gateways wrap around at 2³².
    Q16;
    /// Without any gateway in the mesh, endpoints without an address are sent.
    Q17;
    /// Of Envoy clusters that resolve names, proxies with addresses of one family lose the gateways with host names.
    Q18;
    /// Outlier detection of the mesh's default traffic policy does not switch failover on.
    Q19;
    /// Localities of endpoints do not follow later changes of their nodes.
    Q20;
    /// Clusters take precedence in the order in which they came, not by id.
    Q21;
    /// A withheld endpoint whose pod is not ready waits until the pod is.
    Q23;
    /// Endpoints of a foreign network without gateways are sent as if they could be reached.
    Q26;
    /// A gateway is listed in every locality that it leads to, and localities that lost everything stay.
    Q27;
    /// Explicit failover needs outlier detection too.
    Q28;
    /// The weights of every assignment are scaled for all gateways of the mesh.
    Q29;
    /// Endpoints match the merged service by port name, and the first cluster's ports are the only ones.
    Q30;
    /// A gateway host name that stops resolving loses its addresses at once.
    Q31;
    /// Health is derived when a slice comes, from what is known of its Service at that time.
    Q32;
    /// Behind node ports every selected node is a gateway, also one that by `externalTrafficPolicy: Local` passes
    /// traffic to no pod.
    Q33;
    /// A `gatewayPort` label with a number that is no port means that there is no mTLS port.
    Q34;
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rows in which we answer as the peer does. The default is none: our answer everywhere. Security rows
/// have no flag.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Quirks(u64);

impl Quirks {
    /// Our answer everywhere.
    pub const OURS: Self = Self(0);

    /// The peer's answer everywhere: `--compat istiod`.
    pub fn peer() -> Self {
        Self::of(Quirk::ALL.iter().copied())
    }

    /// The peer's answer in these rows.
    pub fn of(rows: impl IntoIterator<Item = Quirk>) -> Self {
        Self(rows.into_iter().fold(0, |bits, row| bits | 1_u64 << row as u32))
    }

    /// Whether we answer as the peer does in this row.
    pub fn has(self, row: Quirk) -> bool {
        self.0 & (1_u64 << row as u32) != 0
    }

    /// The rows in which we answer as the peer does.
    pub fn rows(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.iter().copied().filter(move |row| self.has(*row))
    }
}

impl fmt::Debug for Quirks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.rows()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d01_the_default_is_ours_and_compat_is_every_row() {
        assert_eq!(Quirks::default(), Quirks::OURS);
        assert_eq!(Quirks::OURS.rows().count(), 0);
        assert_eq!(Quirks::peer().rows().collect::<Vec<_>>(), Quirk::ALL);
        let some = Quirks::of([Quirk::Q30, Quirk::Q1]);
        assert!(some.has(Quirk::Q1) && some.has(Quirk::Q30) && !some.has(Quirk::Q2));
        assert_eq!(format!("{some:?}"), "{Q1, Q30}");
    }
}
