// Generated from the Rust types InputData and OutputResult; a test keeps them equal.

/** What a build is asked for (section 3.1). */
export interface InputData {
  /** The Dockerfile, relative to the working directory. */
  dockerfilePath: string;
  /** The directory that COPY and ADD read from; the working directory if absent. */
  buildContext?: string;
  /** Values for ARG. */
  buildArgs?: Record<string, string>;
  /** The image's name, as typed. */
  tag?: string;
}

/** What a build answers, on success and on failure alike (section 3.2). */
export interface OutputResult {
  /** The digest of the image's configuration, `sha256:…`; empty when there is no image. */
  imageId: string;
  /** The first tag, as typed. */
  tag?: string;
  /** Bytes: the sum of the layers' uncompressed tars. */
  size?: number;
  /** Whether the image was made. */
  success: boolean;
  /** One line: what went wrong, or what to know. */
  message?: string;
}
