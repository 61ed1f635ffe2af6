fn main() {
    let crd = process_operator_crds::crd::crd().unwrap();
    println!("{}", serde_yaml_ng::to_string(&crd).unwrap());
}
