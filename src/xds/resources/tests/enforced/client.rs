//! The application behind the listeners and clients of it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};

use super::envoy::Trust;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers everything with 200, whatever was asked.
pub(in super::super) struct Application {
    pub(in super::super) port: u16,
}

impl Application {
    pub(in super::super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream));
            }
        });
        Self { port }
    }
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            // TLS is none of its business.
            Ok(read) if read > 0 && chunk[0] != 0x16 => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    // The client ends the connection: Envoy loses what a tunnel brought it together with the end.
    while stream.read(&mut chunk).is_ok_and(|read| read > 0) {}
}

/// One request.
#[derive(Clone, Debug)]
pub(in super::super) struct Request {
    method: &'static str,
    path: String,
    host: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    principal: Option<&'static str>,
    sni: &'static str,
    from: Option<IpAddr>,
}

impl Request {
    pub(in super::super) fn get(path: &str) -> Self {
        Self {
            method: "GET",
            path: path.to_owned(),
            host: "a.org",
            headers: Vec::new(),
            principal: None,
            sni: "sni.org",
            from: None,
        }
    }

    pub(super) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    pub(super) fn host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a certificate for `td/ns/namespace/sa/account`.
    pub(super) fn of(self, principal: &'static str) -> Self {
        Self { principal: Some(principal), ..self }
    }

    pub(super) fn sni(self, sni: &'static str) -> Self {
        Self { sni, ..self }
    }

    pub(super) fn from(self, address: &str) -> Self {
        Self { from: Some(address.parse().expect("an address")), ..self }
    }

    /// Whether it gets to the application.
    pub(in super::super) fn ask(&self, ip: IpAddr, port: u16, trust: &Trust) -> bool {
        let Ok(mut stream) = self.connect(SocketAddr::new(ip, port)) else {
            return false;
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let answer = match self.principal {
            None => self.talk(&mut stream),
            Some(principal) => {
                let name = ServerName::try_from(self.sni).expect("a name");
                let Ok(mut connection) = ClientConnection::new(config(principal, trust), name) else {
                    return false;
                };
                self.talk(&mut Stream::new(&mut connection, &mut stream))
            }
        };
        answer.starts_with("HTTP/1.1 200")
    }

    fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let Some(from) = self.from else {
            return TcpStream::connect_timeout(&to, PATIENCE);
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            let stream = socket.connect(to).await?.into_std()?;
            stream.set_nonblocking(false)?;
            Ok(stream)
        })
    }

    fn talk(&self, stream: &mut (impl Read + Write)) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let Self { method, path, host, .. } = self;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        let mut chunk = [0; 1024];
        while answer.len() < 12 {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => answer.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn config(principal: &str, trust: &Trust) -> Arc<ClientConfig> {
    let issued = trust.issue(principal);
    let chain = CertificateDer::pem_slice_iter(issued.chain_pem.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.reveal().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_auth_cert(chain.expect("a chain"), key)
        .expect("a certificate");
    config.alpn_protocols = ["istio-http/1.1", "istio", "http/1.1"].map(|alpn| alpn.into()).into();
    Arc::new(config)
}

/// Servers are not what is tested.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
