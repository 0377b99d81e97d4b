# What the test scripts share: what they need, and how it comes to be there. Sourced by `run` and `chaos`.

kafka_version=4.4.0
registry_version=2.6.13.Final
# What the rig runs: kept outside the repository, keyed by version, so that the second run is fast.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/listkeeper-tests"
export LISTKEEPER_TEST_KAFKA="$cache/kafka-$kafka_version"
export LISTKEEPER_TEST_REGISTRY="$cache/apicurio-$registry_version"

# A command that must be there, and the Debian package that brings it.
needs_build=(gcc:build-essential g++:build-essential make:build-essential perl:perl)
needs_rig=(java:default-jre-headless mvn:maven curl:curl)

# install_missing COMMAND:PACKAGE...
install_missing() {
    local missing=() need
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
    done
    ((${#missing[@]} == 0)) && return
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" ca-certificates
    else
        echo "tests/run: install these packages, or what your system calls them: ${missing[*]}" >&2
        exit 69
    fi
}

require_rust() {
    command -v cargo >/dev/null && return
    echo "tests/run: a Rust toolchain (1.95 or newer) is missing: install it with rustup (https://rustup.rs)" >&2
    exit 69
}

# into FOLDER COMMAND...: runs the command with a new folder as its last argument, and gives the folder its name only
# when it succeeded, so that a run that was cut off leaves nothing that looks complete.
into() {
    local folder=$1
    shift
    [[ -d $folder ]] && return
    mkdir -p "$cache"
    local part
    part=$(mktemp -d "$cache/part.XXXXXX")
    if ! "$@" "$part"; then
        rm -rf "$part"
        echo "tests/run: could not resolve $(basename "$folder") with Maven: check the network and ~/.m2/settings.xml" >&2
        exit 69
    fi
    mv -T "$part" "$folder" 2>/dev/null || rm -rf "$part"
}

resolve_kafka() {
    cat >"$1/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>listkeeper</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
  </dependencies>
</project>
XML
    mvn -B -q -ntp -f "$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$1/libs"
}

resolve_registry() {
    local artifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all"
    mvn -B -q -ntp org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get -Dtransitive=false -Dartifact="$artifact" &&
        mvn -B -q -ntp org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dartifact="$artifact" \
            -DoutputDirectory="$1" &&
        tar -xzf "$1"/*.tar.gz -C "$1" && rm "$1"/*.tar.gz
}

install_rig() {
    install_missing "${needs_rig[@]}"
    into "$LISTKEEPER_TEST_KAFKA" resolve_kafka
    into "$LISTKEEPER_TEST_REGISTRY" resolve_registry
}
