//! Which authorities a TLS connection trusts, and how it authenticates this client.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM format. They are read for every connection, so that renewed files are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates of the authorities to trust instead of the system's.
    pub authorities: Option<PathBuf>,
    /// Our own certificate chain, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
}

impl Trust {
    /// Read the files.
    ///
    /// # Errors
    /// A sentence that names the file that cannot be used.
    pub fn config(&self) -> Result<ClientConfig, String> {
        let config = ClientConfig::builder().with_root_certificates(self.roots()?);
        let (Some(chain), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(config.with_no_client_auth());
        };
        let chain = certificates(chain).map_err(|error| format!("the file in ssl_certfile cannot be used: {error}"))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| format!("the file in ssl_keyfile cannot be used: {error}"))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("ssl_certfile and ssl_keyfile do not match: {error}"))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let found = match &self.authorities {
            Some(path) => {
                certificates(path).map_err(|error| format!("the file in ssl_ca_certs cannot be used: {error}"))?
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                if let (true, Some(error)) = (found.certs.is_empty(), found.errors.first()) {
                    return Err(format!("the system's certificates cannot be read: {error}"));
                }
                found.certs
            }
        };
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            return Err("there is no certificate to trust: name a file with ssl_ca_certs".into());
        }
        Ok(roots)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it contains no certificate".into()) } else { Ok(found) }
}
