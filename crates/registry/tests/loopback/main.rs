//! The client against a registry on loopback that misbehaves on purpose.

#[cfg(test)]
mod access;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod push;
