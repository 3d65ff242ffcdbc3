//! What probes beside a watch tell (K-05, K-06, K-19).

use std::time::Instant;

use super::attempt::{described, is_suspicious};
use super::look::{Finding, Sample};
use super::position::Order;
use super::side::{Ask, Reply};
use super::{Lane, Machine, Output, Told};
use crate::ingest::objects::wire::{ApiStatus, Revision, decode_list, decode_one};
use crate::ingest::objects::{Object, plural};
use crate::ingest::watch::{Failure, ListReason, SourceEvent};

impl<T: Object> Machine<T> {
    /// Sends the probe or the look that is due.
    pub(super) fn tick_probe(&mut self, now: Instant) {
        if self.side.is_some() {
            return;
        }
        let Some(open) = self.open_watch() else { return };
        if open.next_probe <= now && open.awaiting.is_none() {
            let known = self.position.highest();
            self.ask(now, Ask::Revision { known });
            return;
        }
        let is_latest = |revision| self.server.knows_no_later(self.member, revision);
        if let Some(sample) = self.looks.due(now, &self.limits.deadlines, &mut self.random, is_latest) {
            self.ask(now, Ask::Look(sample));
        }
    }

    /// Another source of the cluster found that the history went back: this one asks as well, now.
    pub(super) fn tick_regressions(&mut self, now: Instant) {
        let regressions = self.server.regressions();
        if std::mem::replace(&mut self.regressions, regressions) == regressions {
            return;
        }
        let awhile = self.limits.deadlines.look_again;
        let asked = self.hurried.is_some_and(|at| now.saturating_duration_since(at) < awhile);
        if !asked && let Some(open) = self.open_watch() {
            open.next_probe = now;
            self.hurried = Some(now);
        }
    }

    /// The history went back.
    pub(super) fn count_regression(&mut self) {
        self.counts.regressed();
        self.regressions = self.server.regressed();
    }

    /// How a probe ended.
    pub(super) fn probed(&mut self, now: Instant, known: Option<u64>, reply: Reply) {
        let subject = self.probe_subject();
        match reply {
            Reply::Body(encoding, body) => match decode_list::<T>(encoding, &body) {
                Ok(page) => self.probe_answered(now, known, &page.revision),
                Err(error) => self.probe_failed(now, Failure::Refused(format!("{subject}: {error}"))),
            },
            Reply::Refused(status) => self.probe_refused(now, &status, subject),
            Reply::Unusable(text) => self.probe_failed(now, Failure::Refused(format!("{subject}: {text}"))),
            Reply::Broken(error) => {
                self.probe_failed(now, Failure::Unreachable(format!("{subject}: {error}")));
            }
            Reply::Silent => {
                let limit = humantime::format_duration(self.limits.deadlines.headers);
                let text = format!("{subject}: the watch is silent and there is no answer within {limit}");
                self.doubt_connection();
                self.probe_failed(now, Failure::Unreachable(text));
                self.ask(now, Ask::Ready);
            }
        }
    }

    /// What keeps a connection open to a dead server answers nothing on it, also not what the watch waits for.
    fn doubt_connection(&mut self) {
        let Some(open) = self.open_watch() else { return };
        open.silent_probes += 1;
        if is_suspicious(open.silent_probes) {
            open.doubted = true;
            self.suspect();
        }
    }

    fn probe_subject(&self) -> String {
        let at = if self.name.is_empty() { "" } else { " at " };
        format!("probe of {} ({}?limit=1{at}{})", plural(T::KIND), self.urls.path(), self.name)
    }

    /// The server reads its store, and this was its revision when it was asked.
    fn probe_answered(&mut self, now: Instant, known: Option<u64>, revision: &Revision) {
        self.refused = None;
        self.probe_pauses.reset();
        let doubted = self.open_watch().is_some_and(|open| open.doubted);
        if revision.number().zip(known).is_some_and(|(revision, known)| revision < known) {
            self.regressed(now);
            return;
        }
        if doubted {
            // On another connection: the watch is to follow.
            self.take_up(now);
            return;
        }
        let order = self.position.compare(revision.number());
        let deadlines = self.limits.deadlines;
        let wanted = revision.number().filter(|_| order == Order::Newer && self.position.highest().is_some());
        let next_probe = now + self.silence();
        if let Some(open) = self.open_watch() {
            open.silent_probes = 0;
            open.next_probe = next_probe;
            open.awaiting = wanted.map(|revision| (revision, now + deadlines.confirm));
        }
        if self.told != Told::Connected {
            self.tell_connected(now);
        } else if wanted.is_none() {
            self.tell(SourceEvent::Idle);
        }
    }

    fn probe_refused(&mut self, now: Instant, status: &ApiStatus, subject: String) {
        let text = format!("{subject}: {}", described(status));
        match status.code {
            401 => {
                self.outputs.push_back(Output::Unauthorized(Lane::Side));
                if self.is_first(401) {
                    self.probe_at(now);
                } else {
                    self.tell_failed(Failure::Unauthorized(text));
                    let pause = self.refusals.next(&mut self.random);
                    self.probe_at(now + pause);
                }
            }
            403 => {
                self.forbidden(Lane::Side);
                let text = format!("{text}; {}", self.urls.permission());
                self.tell_failed(Failure::Forbidden(text));
                let pause = self.refusals.next(&mut self.random);
                self.probe_at(now + pause);
            }
            _ => {
                self.probe_failed(now, Failure::Refused(text));
                if let Some(said) = status.retry_after {
                    self.probe_at(now + said.min(self.limits.deadlines.retry_after));
                }
            }
        }
    }

    /// The watch stays: it may be well, and it goes on where it is if the server recovers.
    fn probe_failed(&mut self, now: Instant, failure: Failure) {
        self.tell_failed(failure);
        let pause = self.probe_pauses.next(&mut self.random);
        self.probe_at(now + pause);
    }

    fn probe_at(&mut self, at: Instant) {
        if let Some(open) = self.open_watch() {
            open.next_probe = at;
        }
    }

    /// What `/readyz` says, after a probe was not answered. Only an error says more than silence did.
    pub(super) fn readiness(&mut self, status: u16) {
        if status >= 500 && self.told == Told::Failed {
            let subject = self.probe_subject();
            let text = format!("{subject}: no answer, and /readyz says {status}: the server's store is away");
            self.tell(SourceEvent::Failed(Failure::Refused(text)));
        }
    }

    /// How a look at one object ended. What is no answer about the object proves nothing.
    pub(super) fn looked(&mut self, now: Instant, sample: &Sample, reply: Reply) {
        let deadlines = self.limits.deadlines;
        let finding = match reply {
            Reply::Body(encoding, body) => match decode_one::<T>(encoding, &body) {
                Ok(found) => self.looks.found(now, sample, Some(&found), &deadlines, &mut self.random),
                Err(_) => return self.looks.put_off(now + deadlines.look),
            },
            Reply::Refused(status) if status.code == 404 && status.reason == "NotFound" => {
                self.looks.found::<T>(now, sample, None, &deadlines, &mut self.random)
            }
            Reply::Silent => {
                // As telling as a probe that is not answered, and that one says it.
                self.doubt_connection();
                self.probe_at(now);
                return self.looks.put_off(now + deadlines.look_again);
            }
            _ => return self.looks.put_off(now + deadlines.look),
        };
        match finding {
            Finding::Doubtful => {}
            Finding::Right => {
                if self.told == Told::Failed {
                    self.probe_at(now);
                }
            }
            Finding::Wrong => {
                self.count_regression();
                self.position.forget();
                self.relist(now, ListReason::Regressed);
            }
            Finding::Lying => {
                let text = format!(
                    "{} {}: reads by name contradict lists and watches; if etcd was restored, restart the API server",
                    T::KIND,
                    sample.key
                );
                self.tell_failed(Failure::Refused(text));
            }
        }
    }
}
